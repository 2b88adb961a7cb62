// SPDX-License-Identifier: GPL-2.0

//! The live view on a terminal.

use crate::{
    snapshot::Snapshot,
    stop::{
        Stop,
        PATIENCE, //
    },
    Result,
};
use crossterm::{
    cursor,
    event::{
        self,
        Event,
        KeyCode,
        KeyModifiers, //
    },
    execute, queue,
    style::{
        Print,
        Stylize, //
    },
    terminal,
};
use std::{
    env,
    io::{
        self,
        IsTerminal,
        Write, //
    },
    panic,
    sync::Once,
    time::{
        Duration,
        Instant, //
    },
};

/// A terminal that belongs to the view until this is dropped.
struct Screen;

impl Screen {
    fn take() -> io::Result<Screen> {
        static ON_PANIC: Once = Once::new();

        // Else what it says would go with the view.
        ON_PANIC.call_once(|| {
            let report = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                Screen::give_back();
                report(panic);
            }));
        });
        terminal::enable_raw_mode()?;
        let screen = Screen;
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

    /// Can be repeated. There is nothing to be done if it fails.
    fn give_back() {
        if terminal::is_raw_mode_enabled().unwrap_or(true) {
            let _ = execute!(
                io::stdout(),
                // Some terminals have one screen only.
                terminal::Clear(terminal::ClearType::All),
                cursor::MoveTo(0, 0),
                cursor::Show,
                terminal::LeaveAlternateScreen
            );
            let _ = terminal::disable_raw_mode();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        Screen::give_back();
    }
}

/// The view, which is updated each second.
pub(crate) struct View {
    /// What is sampled, and what is to be known about that.
    source: String,
    note: Option<String>,
    duration: Option<Duration>,
    latest: Option<Snapshot>,
    samples_before: (f64, u64),
    _screen: Screen,
}

/// Lines that are not for commands.
const OTHER_LINES: u16 = 8;

impl View {
    pub(crate) fn is_possible() -> bool {
        io::stdout().is_terminal()
            && io::stdin().is_terminal()
            && env::var_os("TERM").is_some_and(|term| term != "dumb")
    }

    pub(crate) fn open(
        source: String,
        note: Option<String>,
        duration: Option<Duration>,
    ) -> Result<View> {
        let mut view = View {
            source,
            note,
            duration,
            latest: None,
            samples_before: (0.0, 0),
            _screen: Screen::take()?,
        };
        view.draw()?;
        Ok(view)
    }

    /// How many commands there is room for.
    pub(crate) fn room() -> usize {
        size().1.saturating_sub(OTHER_LINES).into()
    }

    pub(crate) fn update(&mut self, snapshot: Snapshot) -> Result<()> {
        if let Some(latest) = &self.latest {
            self.samples_before = (latest.seconds, latest.counts.samples);
        }
        self.latest = Some(snapshot);
        self.draw()
    }

    /// Looks after the terminal until then, or until it is to stop.
    pub(crate) fn wait_until(&mut self, then: Instant, stop: &Stop) -> Result<()> {
        loop {
            let left = then.saturating_duration_since(Instant::now());
            if left.is_zero() || stop.is_requested() {
                return Ok(());
            }
            if !event::poll(left.min(PATIENCE))? {
                continue;
            }
            match event::read()? {
                Event::Key(key) if ends(key.code, key.modifiers) => stop.request(),
                Event::Resize(..) => self.draw()?,
                _ => (),
            }
        }
    }

    fn draw(&mut self) -> Result<()> {
        let (width, height) = size();
        let mut out = io::stdout().lock();
        for (row, (style, line)) in (0..height).zip(self.lines()) {
            let line = clipped(&line, width.into());
            let line = match style {
                Style::Bar => format!("{line:width$}", width = width.into()).reverse(),
                Style::Heading => line.bold(),
                Style::Text => line.stylize(),
            };
            queue!(
                out,
                cursor::MoveTo(0, row),
                Print(line),
                terminal::Clear(terminal::ClearType::UntilNewLine)
            )?;
        }
        queue!(out, terminal::Clear(terminal::ClearType::FromCursorDown))?;
        Ok(out.flush()?)
    }

    fn lines(&self) -> Vec<(Style, String)> {
        let seconds = self.latest.as_ref().map_or(0.0, |latest| latest.seconds);
        let of = self.duration.map_or_else(String::new, |duration| {
            format!(" of {}", duration.as_secs())
        });
        let mut lines = vec![
            (
                Style::Bar,
                format!(" profiler   {seconds:.0}{of} s   q ends it"),
            ),
            (Style::Text, format!(" sampling {}", self.source)),
            (
                Style::Text,
                format!(" {}", self.note.as_deref().unwrap_or_default()),
            ),
        ];
        if let Some(latest) = &self.latest {
            let (counts, stats) = (&latest.counts, &latest.stats);
            let (before, samples_before) = self.samples_before;
            let rate = (counts.samples - samples_before) as f64 / (latest.seconds - before);
            lines.push((
                Style::Text,
                format!(
                    " samples {:>12}  {rate:>8.0} a second    handles live    {:>9}",
                    counts.samples, stats.handles_live
                ),
            ));
            lines.push((
                Style::Text,
                format!(
                    " drops in NMI {:>7}                      last references {:>9}",
                    counts.drops, counts.last_references
                ),
            ));
            lines.push((Style::Text, format!(" queued: {}", latest.waiting_line())));
            lines.push((Style::Text, String::new()));
            let (heading, commands) = latest.command_table();
            lines.push((Style::Heading, heading));
            lines.extend(commands.into_iter().map(|line| (Style::Text, line)));
        }
        lines
    }
}

enum Style {
    Bar,
    Heading,
    Text,
}

/// In raw mode the terminal sends no signals.
fn ends(key: KeyCode, modifiers: KeyModifiers) -> bool {
    match key {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

/// Columns and rows.
fn size() -> (u16, u16) {
    match terminal::size() {
        Ok((width, height)) if width > 0 && height > 0 => (width, height),
        // A serial line does not know it.
        _ => (80, 24),
    }
}

fn clipped(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let fits = line.chars().take(width.saturating_sub(1));
    fits.chain(['…']).take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::{
        pty::{
            ioctl_tiocgptpeer,
            openpt,
            unlockpt,
            OpenptFlags, //
        },
        termios::tcgetattr,
    };
    use std::{
        fs::File,
        io::Read,
        process::Command, //
    };

    /// What [`a_panic_is_seen`] runs on a terminal of its own.
    #[test]
    #[ignore = "fails, on purpose"]
    fn panics() {
        let _view = View::open("nothing".into(), None, None).unwrap();
        panic!("on purpose");
    }

    #[test]
    fn a_panic_is_seen() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let terminal = openpt(flags).unwrap();
        unlockpt(&terminal).unwrap();
        let line = ioctl_tiocgptpeer(&terminal, flags).unwrap();
        let settings = || format!("{:?}", tcgetattr(&line).unwrap());
        let before = settings();

        let test = env::current_exe().unwrap();
        let status = Command::new(test)
            .args(["--exact", "view::tests::panics", "--ignored", "--nocapture"])
            .stdin(line.try_clone().unwrap())
            .stdout(line.try_clone().unwrap())
            .stderr(line.try_clone().unwrap())
            .status()
            .unwrap();
        assert!(!status.success());
        assert_eq!(settings(), before);

        drop(line);
        let mut said = Vec::new();
        // An error when nobody has the other side any more.
        let _ = File::from(terminal).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let (_, after) = said.split_once("nothing").expect("the view was drawn");
        let (_, after) = after
            .split_once("\x1b[?1049l")
            .expect("the screen is given back");
        assert!(after.contains("on purpose"), "{said}");
    }

    #[test]
    fn lines_are_clipped() {
        assert_eq!(clipped("µs and more", 11), "µs and more");
        assert_eq!(clipped("µs and more", 5), "µs a…");
        assert_eq!(clipped("more", 0), "");
    }
}
