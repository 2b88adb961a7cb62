// SPDX-License-Identifier: GPL-2.0

//! The plots that the document shows.

use crate::{
    measured::Measured,
    Result, //
};
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (800, 420);
const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const FLOOR: RGBColor = RGBColor(0x99, 0x99, 0x99);
const RIVAL: RGBColor = RGBColor(0xd6, 0x6a, 0x1f);

pub(crate) fn draw(measured: &Measured, folder: &Path) -> Result<()> {
    drops(measured, &folder.join("drop.svg"))?;
    interrupts_off(measured, &folder.join("interrupts-off.svg"))?;
    waiting(measured, &folder.join("waiting.svg"))
}

struct Bar {
    label: &'static str,
    value: f64,
    color: RGBColor,
}

/// What it takes in NMI to get something out of it, each way there is.
fn drops(measured: &Measured, file: &Path) -> Result<()> {
    let mut bars = Vec::new();
    let mut bar = |label, name, of_floor, color| {
        if let Some(figure) = measured.get(name) {
            let value = if of_floor { figure.floor } else { figure.value };
            bars.push(Bar {
                label,
                value,
                color,
            });
        }
    };
    bar("floor, first", "nmi_drop_first", true, FLOOR);
    bar("floor, one more", "nmi_drop_next", true, FLOOR);
    bar("kptr_defer, first", "nmi_drop_first", false, OURS);
    bar("kptr_defer, one more", "nmi_drop_next", false, OURS);
    bar("task_work_add(), first", "task_work_first", false, RIVAL);
    bar("task_work_add(), one more", "task_work_next", false, RIVAL);
    bar("kfree_rcu_nolock()", "kfree_rcu_nolock", false, RIVAL);
    bar("bpf_cpumask_release()", "bpf_mem_free", false, RIVAL);

    let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("One drop in NMI: instructions", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(190)
        .build_cartesian_2d(0.0..most * 1.1, (0..bars.len() - 1).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len())
        .x_label_formatter(&|n| format!("{n:.0}"))
        .y_label_formatter(&|position| match position {
            // From the top.
            SegmentValue::CenterOf(i) => bars
                .get(bars.len().wrapping_sub(i + 1))
                .map_or_else(String::new, |bar| bar.label.to_owned()),
            _ => String::new(),
        })
        .draw()?;
    chart.draw_series(bars.iter().rev().enumerate().map(|(i, bar)| {
        let mut rectangle = Rectangle::new(
            [
                (0.0, SegmentValue::Exact(i)),
                (bar.value, SegmentValue::Exact(i + 1)),
            ],
            bar.color.filled(),
        );
        rectangle.set_margin(4, 4, 0, 0);
        rectangle
    }))?;
    root.present()?;
    Ok(())
}

/// The longest stretch with interrupts off, by the length of the queue.
fn interrupts_off(measured: &Measured, file: &Path) -> Result<()> {
    let points = |prefix| {
        [1_000, 10_000, 100_000, 1_000_000]
            .into_iter()
            .filter_map(|n: u32| {
                Some((f64::from(n), measured.get(&format!("{prefix}_{n}"))?.value))
            })
            .collect::<Vec<_>>()
    };

    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Longest stretch with interrupts off: instructions",
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d((800.0..1_300_000.0).log_scale(), (1e3..1e8).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("drops on the queue")
        .x_label_formatter(&|n| format!("{n:.0}"))
        .y_label_formatter(&|n| format!("{n:.0}"))
        .draw()?;
    for (points, color, label) in [
        (points("irqs_off"), OURS, "kptr_defer"),
        (points("irqs_off_in_a_loop"), FLOOR, "a loop over the list"),
    ] {
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(3))?
            .label(label)
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], color.filled()));
    }
    legend(&mut chart)?;
    root.present()?;
    Ok(())
}

/// How much of its time a CPU spends on waiting for another one, by how often both drop.
fn waiting(measured: &Measured, file: &Path) -> Result<()> {
    let points = [10_000, 100_000, 1_000_000]
        .into_iter()
        .filter_map(|drops| {
            let took = measured.get(&format!("cores_2_at_{drops}"))?;
            let drops = f64::from(drops);
            Some((drops, drops * (took.value - took.floor) * 1e-9 * 100.0))
        })
        .collect::<Vec<_>>();
    let Some(rate) = measured.get("rate_that_matters") else {
        return Ok(());
    };

    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (least, most) = (0.01, 100.0);
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "What a CPU waits for the other when both drop: percent of its time",
            ("sans-serif", 18),
        )
        .margin(12)
        .margin_right(40)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(
            (5_000.0..2_000_000.0).log_scale(),
            (least..most).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("drops per second on each CPU")
        .x_label_formatter(&|n| format!("{n:.0}"))
        .y_label_formatter(&|n| format!("{n}"))
        .draw()?;
    chart.draw_series(LineSeries::new(points, OURS.stroke_width(2)).point_size(3))?;
    chart
        .draw_series(LineSeries::new(
            [(rate.floor, least), (rate.floor, most)],
            RIVAL.stroke_width(2),
        ))?
        .label("as often as perf samples at most")
        .legend(|(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], RIVAL.filled()));
    legend(&mut chart)?;
    root.present()?;
    Ok(())
}

/// What each series is.
fn legend<'a, C: CoordTranslate>(chart: &mut ChartContext<'a, SVGBackend<'a>, C>) -> Result<()> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    Ok(())
}
