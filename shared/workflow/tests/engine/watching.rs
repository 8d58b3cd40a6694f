//! Watchers and handlers of events through the tasks of a run.

use crate::harness::Case;

#[test]
fn a_watcher_goes_on_after_its_task_and_ends_with_the_run() {
    let text = r#"
        local id, looks = nil, 0
        event.on("custom.*", function(e) print(e.task, e.type, e.data.value) end)
        local register = task("register"):command(function()
            id = watcher.register.custom({
                check = function() looks += 1 return 2 < looks and looks end,
                interval = "10ms",
                handler = function(e) print("handler", e.data.value) end,
            })
            -- A command that outlives each of its looks does not outlive the run.
            watcher.register.command({ command = "sleep 0.01; echo $$", when = "changed", interval = "10ms" })
            return true
        end):build()
        local see = task("see"):depends_on(register):command(function()
            local e = watcher.wait(id, "10s")
            return e ~= nil, e and e.type
        end):build()
        workflow.define("w"):tasks({ register, see })
    "#;
    let ended = Case::new(text).run();
    assert_eq!(ended.lines(), ["register succeeded", "see succeeded: custom.triggered"]);
    let log = ended.log();
    let printed: Vec<_> = log.iter().filter(|line| !line.contains("event ")).collect();
    assert_eq!(printed, ["register: register\tcustom.triggered\t3", "register: handler\t3"]);
}

#[test]
fn values_are_measured_over_all_tasks_of_a_run() {
    let text = r#"
        local a = task("a"):command(function() metrics.counter("n", 2) return true end):build()
        local b = task("b"):depends_on(a):command(function() return metrics.counter("n") == 3, "" end):build()
        workflow.define("w"):tasks({ a, b })
    "#;
    assert_eq!(Case::new(text).run().lines(), ["a succeeded", "b succeeded"]);
}
