//! Runs of some of the tasks, and files that are looked through.

use sloth_workflow::{Selection, TaskStatus, validate};

use crate::harness::Case;

const TEXT: &str = r#"
    task("build"):command(function() return true, "", { n = 1 } end)
    task("check"):depends_on("build"):command(function(_, _, deps) return true, deps.build and "built" or "not built" end)
    task("ship"):depends_on("check"):command(function() return true end)
    task("tell"):command(function() return true end)
"#;

fn lines(selection: Selection) -> Vec<String> {
    let mut case = Case::new(TEXT);
    case.input.selection = selection;
    case.run().lines()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn only_some_tasks_are_run() {
    let only = |patterns: &[&str]| lines(Selection { only: names(patterns), ..Selection::default() });
    assert_eq!(
        only(&["check"]),
        [
            "build skipped: left out: `only` does not name it",
            "check succeeded: not built",
            "ship skipped: left out: `only` does not name it",
            "tell skipped: left out: `only` does not name it",
        ]
    );
    assert_eq!(only(&["main/*"]), ["build succeeded", "check succeeded: built", "ship succeeded", "tell succeeded"]);
    assert_eq!(only(&["b*", "?ell"])[0], "build succeeded");
    assert_eq!(only(&["b*", "?ell"])[3], "tell succeeded");
}

#[test]
fn some_tasks_are_left_out_and_count_as_done() {
    let skip = lines(Selection { skip: names(&["check", "tell"]), ..Selection::default() });
    assert_eq!(
        skip,
        [
            "build succeeded",
            "check skipped: left out: `skip` names it",
            "ship succeeded",
            "tell skipped: left out: `skip` names it"
        ]
    );
    let to = lines(Selection { to: names(&["check"]), ..Selection::default() });
    assert_eq!(to[0], "build succeeded");
    assert_eq!(to[2], "ship skipped: left out: `check` does not wait for it");
    let from = lines(Selection { from: names(&["check"]), ..Selection::default() });
    assert_eq!(
        from,
        [
            "build skipped: left out: it does not come after `check`",
            "check succeeded: not built",
            "ship succeeded",
            "tell skipped: left out: it does not come after `check`"
        ]
    );
}

#[test]
fn what_names_no_task_is_an_error() {
    let mut case = Case::new(TEXT);
    case.input.selection = Selection { only: names(&["biuld"]), ..Selection::default() };
    let error = case.try_run().err().expect("an error").to_string();
    assert_eq!(error, "`only` names `biuld`, and no task is called so; did you mean `build`?");
}

#[test]
fn what_was_left_out_stays_left_out_after_a_cut() {
    let mut case = Case::new(TEXT);
    case.input.selection = Selection { only: names(&["ship"]), ..Selection::default() };
    let first = case.run();
    assert_eq!(first.end.tasks[2].status, TaskStatus::Succeeded);
    let mut case = Case::new(TEXT);
    case.input.selection = Selection { only: names(&["ship"]), ..Selection::default() };
    case.input.resume.ended = first.end.tasks.iter().filter(|end| end.task.task != "ship").cloned().collect();
    assert_eq!(case.run().lines(), first.lines());
}

#[test]
fn every_error_of_a_file_is_told() {
    let check = |text: &str| {
        let case = Case::new(text);
        // Writes the files.
        let _ = case.load();
        let found = validate(&case.input.bundle_dir, &case.input.file, &case.input.values, &case.input.limits);
        (found.errors.iter().map(ToString::to_string).collect::<Vec<_>>(), found.warnings, found.plans.len())
    };
    let (errors, warnings, plans) = check(
        "task('a'):comand('x'):timeout('soon')\n\
         task('b'):command(5):depends_on('c')\n\
         workflow.define('w', {\n  tasks = { { command = 'x' }, { name = 'd', retrys = 2, command = 'x' }, 7 },\n  on_fail = 1,\n})\n\
         workflow.define('v'):tasks({ task('e'):command('x'):depends_on('zz'), task('f'):command('x'):depends_on('f') })\n",
    );
    let expected = [
        "main.sloth:1: task `a`: there is no method or key `comand`; did you mean `command`?",
        "main.sloth:1: task `a`: `timeout` takes a duration",
        "main.sloth:2: task `b`: `command` takes a function",
        "main.sloth:3: workflow `w`: entry `1` of `tasks` has no `name`",
        "main.sloth:3: workflow `w`: entry `3` of `tasks` is `7`",
        "main.sloth:3: workflow `w`: `on_fail` takes a function, got `1`",
        "task `e` of workflow `v` depends on `zz`",
    ];
    for begin in expected {
        assert!(errors.iter().any(|error| error.starts_with(begin)), "no `{begin}` in {errors:#?}");
    }
    assert_eq!((errors.len(), plans), (expected.len(), 1), "{errors:#?}");
    let ignored = "there is no method or key `retrys`, so it is ignored; did you mean `retry`?";
    assert_eq!(warnings.first(), Some(&format!("main.sloth:4: task `d`: {ignored}")));
    let (errors, warnings, plans) =
        check("task('a'):command('x') workflow.define('w'):tasks({ task('b'):command('x') })");
    assert_eq!((errors.len(), plans), (0, 1));
    assert_eq!(warnings, ["no workflow has these tasks, so they are not run: `a`"]);
    let (errors, ..) = check("task('a'):comand()\ntsk('b')");
    assert_eq!(errors.len(), 2, "{errors:#?}");
    let (errors, warnings, _) = check("task('a'):nope()\ntsk('b')");
    assert_eq!((errors.len(), warnings.len()), (1, 1), "{errors:#?} {warnings:#?}");
    assert_eq!(check("-- nothing").0.len(), 1);
    assert_eq!(check("task('a'").0.len(), 1);
}
