// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for bpf_put_task() and bpf_put_css(): what has to be put later while
 * interrupts are off is on the list for so long, since nothing else gives back
 * last references meanwhile.
 */

#include <kunit/test.h>
#include <linux/bpf_last_ref.h>
#include <linux/cgroup.h>
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/kthread.h>
#include <linux/percpu-refcount.h>
#include <linux/refcount.h>
#include <linux/sched/task.h>

/* For what others do in their own time, an irq_work or the end of a task. */
#define eventually(condition)					\
({								\
	int patience = 500;					\
	bool so;						\
								\
	while (!(so = (condition)) && patience--)		\
		msleep(20);					\
	so;							\
})

static int until_stopped(void *unused)
{
	set_current_state(TASK_INTERRUPTIBLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_INTERRUPTIBLE);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

/*
 * A task that has ended, of which nobody but the test holds a reference that
 * bpf_put_task() puts; its memory is held by its usage count.
 */
static struct task_struct *dead_task(struct kunit *test)
{
	struct task_struct *task = kthread_run(until_stopped, NULL, "last_ref_test");

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);
	get_task_struct(task);
	refcount_inc(&task->rcu_users);
	kthread_stop(task);
	KUNIT_ASSERT_TRUE(test, eventually(refcount_read(&task->rcu_users) == 1));
	return task;
}

/* It has gone the way of all tasks. */
static void expect_end(struct kunit *test, struct task_struct *task)
{
	KUNIT_ASSERT_TRUE(test, eventually(refcount_read(&task->rcu_users) == 0));
	KUNIT_ASSERT_TRUE(test, eventually(refcount_read(&task->usage) == 1));
	put_task_struct(task);
}

static void task_at_once(struct kunit *test)
{
	struct task_struct *task = dead_task(test);

	bpf_put_task(task);
	KUNIT_EXPECT_EQ(test, refcount_read(&task->rcu_users), 0);
	expect_end(test, task);
}

static void task_later(struct kunit *test)
{
	struct task_struct *task = dead_task(test);
	unsigned long flags;
	int users;

	local_irq_save(flags);
	bpf_put_task(task);
	users = refcount_read(&task->rcu_users);
	local_irq_restore(flags);

	KUNIT_EXPECT_EQ(test, users, 1);
	expect_end(test, task);
}

static void task_not_the_last(struct kunit *test)
{
	struct task_struct *task = dead_task(test);
	unsigned long flags;
	int users;

	refcount_inc(&task->rcu_users);
	local_irq_save(flags);
	bpf_put_task(task);
	users = refcount_read(&task->rcu_users);
	local_irq_restore(flags);

	KUNIT_EXPECT_EQ(test, users, 1);
	/* Still the test's, not the list's. */
	msleep(20);
	KUNIT_EXPECT_EQ(test, refcount_read(&task->rcu_users), 1);
	bpf_put_task(task);
	expect_end(test, task);
}

/* Somebody takes a reference to it while it is on the list, and gives it back. */
static void task_taken_and_given_back(struct kunit *test)
{
	struct task_struct *task = dead_task(test);
	bool taken, again;
	unsigned long flags;
	int users;

	local_irq_save(flags);
	bpf_put_task(task);
	taken = refcount_inc_not_zero(&task->rcu_users);
	if (taken)
		bpf_put_task(task);
	again = refcount_inc_not_zero(&task->rcu_users);
	if (again)
		bpf_put_task(task);
	users = refcount_read(&task->rcu_users);
	local_irq_restore(flags);

	KUNIT_EXPECT_TRUE(test, taken);
	KUNIT_EXPECT_TRUE(test, again);
	KUNIT_EXPECT_EQ(test, users, 1);
	expect_end(test, task);
}

/* Somebody holds it when the list gives it back, and is the last then. */
static void task_on_the_list_twice(struct kunit *test)
{
	struct task_struct *task = dead_task(test);
	unsigned long flags;
	bool taken;
	int users;

	local_irq_save(flags);
	bpf_put_task(task);
	taken = refcount_inc_not_zero(&task->rcu_users);
	local_irq_restore(flags);
	KUNIT_ASSERT_TRUE(test, taken);
	KUNIT_ASSERT_TRUE(test, eventually(refcount_read(&task->rcu_users) == 1));

	local_irq_save(flags);
	bpf_put_task(task);
	users = refcount_read(&task->rcu_users);
	local_irq_restore(flags);
	KUNIT_EXPECT_EQ(test, users, 1);
	expect_end(test, task);
}

#ifdef CONFIG_CGROUPS
/* As much of a css as is counted. */
struct counted {
	struct cgroup_subsys_state css;
	atomic_t released;
};

static void counted_release(struct percpu_ref *ref)
{
	struct counted *counted = container_of(ref, struct counted, css.refcnt);

	/* As css_release() does. */
	memset(&counted->css.destroy_work, 0xff, sizeof(counted->css.destroy_work));
	atomic_inc(&counted->released);
}

static void new_counted(struct kunit *test, struct counted *counted)
{
	KUNIT_ASSERT_EQ(test, 0, percpu_ref_init(&counted->css.refcnt, counted_release, 0,
						 GFP_KERNEL));
}

/* Gives back the initial reference, and waits until the count is atomic, and what it should be. */
static void kill_counted(struct kunit *test, struct counted *counted, long references)
{
	struct percpu_ref *ref = &counted->css.refcnt;

	percpu_ref_kill(ref);
	KUNIT_ASSERT_TRUE(test, eventually(atomic_long_read(&ref->data->count) == references));
}

static void css_later(struct kunit *test)
{
	struct counted *counted = kunit_kzalloc(test, sizeof(*counted), GFP_KERNEL);
	unsigned long flags;
	int released;

	KUNIT_ASSERT_NOT_NULL(test, counted);
	new_counted(test, counted);
	css_get(&counted->css);
	css_get(&counted->css);
	kill_counted(test, counted, 2);

	local_irq_save(flags);
	bpf_put_css(&counted->css);	/* not the last */
	bpf_put_css(&counted->css);
	released = atomic_read(&counted->released);
	local_irq_restore(flags);

	KUNIT_EXPECT_EQ(test, released, 0);
	KUNIT_EXPECT_TRUE(test, eventually(atomic_read(&counted->released) == 1));
	percpu_ref_exit(&counted->css.refcnt);
}

static void css_at_once(struct kunit *test)
{
	struct counted *counted = kunit_kzalloc(test, sizeof(*counted), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, counted);
	new_counted(test, counted);
	css_get(&counted->css);
	kill_counted(test, counted, 1);
	bpf_put_css(&counted->css);
	KUNIT_EXPECT_EQ(test, atomic_read(&counted->released), 1);
	percpu_ref_exit(&counted->css.refcnt);
}

static void css_in_percpu_mode(struct kunit *test)
{
	struct counted *counted = kunit_kzalloc(test, sizeof(*counted), GFP_KERNEL);
	unsigned long flags;
	int i;

	KUNIT_ASSERT_NOT_NULL(test, counted);
	new_counted(test, counted);
	for (i = 0; i < 10; i++)
		css_get(&counted->css);
	local_irq_save(flags);
	for (i = 0; i < 10; i++)
		bpf_put_css(&counted->css);
	local_irq_restore(flags);
	KUNIT_EXPECT_EQ(test, atomic_read(&counted->released), 0);

	percpu_ref_kill(&counted->css.refcnt);
	KUNIT_EXPECT_TRUE(test, eventually(atomic_read(&counted->released) == 1));
	percpu_ref_exit(&counted->css.refcnt);
}

static void css_that_is_not_counted(struct kunit *test)
{
	struct counted *counted = kunit_kzalloc(test, sizeof(*counted), GFP_KERNEL);
	unsigned long flags;

	KUNIT_ASSERT_NOT_NULL(test, counted);
	new_counted(test, counted);
	counted->css.flags = CSS_NO_REF;
	local_irq_save(flags);
	bpf_put_css(&counted->css);
	local_irq_restore(flags);
	counted->css.flags = 0;
	KUNIT_EXPECT_EQ(test, atomic_read(&counted->released), 0);

	percpu_ref_kill(&counted->css.refcnt);
	KUNIT_EXPECT_TRUE(test, eventually(atomic_read(&counted->released) == 1));
	percpu_ref_exit(&counted->css.refcnt);
}

#define MANY 16

/* All at once, tasks and css on one list. */
static void many(struct kunit *test)
{
	struct counted *counted = kunit_kcalloc(test, MANY, sizeof(*counted), GFP_KERNEL);
	struct task_struct *tasks[MANY];
	int i, held = 0, released = 0;
	unsigned long flags;

	KUNIT_ASSERT_NOT_NULL(test, counted);
	for (i = 0; i < MANY; i++) {
		tasks[i] = dead_task(test);
		new_counted(test, &counted[i]);
		css_get(&counted[i].css);
		kill_counted(test, &counted[i], 1);
	}

	local_irq_save(flags);
	for (i = 0; i < MANY; i++) {
		bpf_put_task(tasks[i]);
		bpf_put_css(&counted[i].css);
	}
	for (i = 0; i < MANY; i++) {
		held += refcount_read(&tasks[i]->rcu_users);
		released += atomic_read(&counted[i].released);
	}
	local_irq_restore(flags);

	KUNIT_EXPECT_EQ(test, held, MANY);
	KUNIT_EXPECT_EQ(test, released, 0);
	for (i = 0; i < MANY; i++) {
		expect_end(test, tasks[i]);
		KUNIT_EXPECT_TRUE(test, eventually(atomic_read(&counted[i].released) == 1));
		percpu_ref_exit(&counted[i].css.refcnt);
	}
}
#endif

static struct kunit_case last_ref_cases[] = {
	KUNIT_CASE(task_at_once),
	KUNIT_CASE(task_later),
	KUNIT_CASE(task_not_the_last),
	KUNIT_CASE(task_taken_and_given_back),
	KUNIT_CASE(task_on_the_list_twice),
#ifdef CONFIG_CGROUPS
	KUNIT_CASE(css_at_once),
	KUNIT_CASE(css_later),
	KUNIT_CASE(css_in_percpu_mode),
	KUNIT_CASE(css_that_is_not_counted),
	KUNIT_CASE(many),
#endif
	{}
};

static struct kunit_suite last_ref_suite = {
	.name = "bpf_last_ref",
	.test_cases = last_ref_cases,
};

kunit_test_suite(last_ref_suite);
