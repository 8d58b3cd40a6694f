//! Tasks whose coroutines wait for each other's.

use std::time::{Duration, Instant};

use crate::harness::Case;

#[test]
fn tasks_hand_values_to_each_other() {
    let ended = Case::new(
        r#"local ch = goroutine.channel()
           local t = {
               task("takes"):command(function() local v = ch:receive() return true, "got " .. v end),
               task("gives"):command(function() goroutine.sleep(20) return ch:send("it"), "gave" end),
           }
           workflow.define("w"):tasks(t):config({ max_parallel_tasks = 2 })"#,
    )
    .run();
    assert_eq!(ended.lines(), ["takes succeeded: got it", "gives succeeded: gave"]);
}

#[test]
fn tasks_that_wait_for_nobody_fail_at_once() {
    let began = Instant::now();
    let ended = Case::new(
        r#"local one, two = goroutine.channel(), goroutine.channel()
           local t = {
               task("a"):command(function() goroutine.spawn(function() one:send(1) end) two:receive() return true end),
               task("b"):command(function() goroutine.sleep(30) goroutine.wait_group().wait() goroutine.mutex().lock()
                   two:receive() return true end),
               task("c"):command(function() goroutine.sleep(10) return true, "ended before" end),
           }
           workflow.define("w"):tasks(t):config({ max_parallel_tasks = 3 })"#,
    )
    .run();
    let lines = ended.lines();
    let all = "deadlock: nothing can go on: task `a` at main.sloth:3 waits to receive from a channel; \
               a goroutine at main.sloth:3 waits to send on a channel; \
               task `b` at main.sloth:5 waits to receive from a channel";
    assert!(lines[0].starts_with("a failed: main.sloth:3: ") && lines[0].contains(all), "{lines:?}");
    assert!(lines[1].starts_with("b failed: main.sloth:5: deadlock: nothing can go on: "), "{lines:?}");
    assert_eq!(lines[2], "c succeeded: ended before");
    assert!(began.elapsed() < Duration::from_secs(10), "it was seen late");
}

/// Whoever is between two attempts may yet do what the other waits for, and so may a task that was not begun.
#[test]
fn what_is_still_to_come_is_waited_for() {
    let ended = Case::new(
        r#"local ch, n = goroutine.channel(), 0
           local t = {
               task("takes"):command(function() local v = ch:receive() return true, "got " .. v end),
               task("gives"):retries(2, "fixed"):command(function()
                   n = n + 1
                   if n < 3 then error("not yet") end
                   return true, "third"
               end),
               task("after"):depends_on("gives"):command(function() return ch:send("late") end),
           }
           workflow.define("w"):tasks(t):config({ max_parallel_tasks = 2 })"#,
    )
    .run();
    assert_eq!(ended.lines(), ["takes succeeded: got late", "gives succeeded: third", "after succeeded"]);
}

/// The one that could have answered has ended: the other one hears of it then.
#[test]
fn a_task_does_not_wait_for_one_that_has_ended() {
    let ended = Case::new(
        r#"local ch = goroutine.channel()
           local t = {
               task("takes"):command(function() ch:receive() return true end),
               task("gives"):command(function() goroutine.sleep(20) return false, "broken" end),
           }
           workflow.define("w"):tasks(t):config({ max_parallel_tasks = 2 })
               :on_complete(function() log.info("completed") end)"#,
    )
    .run();
    let lines = ended.lines();
    assert!(
        lines[0].starts_with("takes failed: main.sloth:3: deadlock: nothing can go on: task `takes` at"),
        "{lines:?}"
    );
    assert_eq!(lines[1], "gives failed: broken");
}
