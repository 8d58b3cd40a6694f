//! What tasks get, give and may say.

use serde_json::json;
use sloth_workflow::{AgentInfo, Outcome};

use crate::harness::{Case, check, check_log};

#[test]
fn tasks_run_after_what_they_depend_on_and_get_its_outputs() {
    let text = r#"
        local a = task("a"):command(function(this, params, deps)
            return true, "made", { n = 41, list = { 1, 2 }, f = print }
        end):build()
        task("b"):depends_on("a"):command(function(this, params, deps)
            return true, "", { n = deps.a.n + #deps.a.list - 1 }
        end)
        task("c"):depends_on({ a, "b" }):command(function(this, params, deps)
            print(this.name(), this:name(), params.task_name, params.group_name, deps.b.n, deps.a.f)
            return true
        end)
    "#;
    let ended = Case::new(text).run();
    assert_eq!(ended.lines(), ["a succeeded: made", "b succeeded", "c succeeded"]);
    assert_eq!(ended.log(), ["c: c\tc\tc\tmain\t42\tnil"]);
    assert_eq!(ended.told(), "+a/1 -a +b/1 -b +c/1 -c");
    assert_eq!((ended.end.outcome, ended.host.plans.get()), (Outcome::Succeeded, 1));
    assert_eq!(json!(ended.end.tasks[0].outputs), json!({"n": 41, "list": [1, 2]}));
}

#[test]
fn independent_tasks_overlap_and_the_bound_holds() {
    let text = |bound: usize| {
        format!(
            r#"
            local running, most = 0, 0
            local tasks = {{}}
            for i = 1, 6 do
                tasks[i] = task("t" .. i):command(function()
                    running = running + 1
                    most = math.max(most, running)
                    goroutine.sleep(5)
                    running = running - 1
                    return true
                end)
            end
            workflow.define("w"):tasks(tasks):config({{ max_parallel_tasks = {bound} }})
                :on_complete(function(success, results) print(most, success, results.t6.status) end)
            "#
        )
    };
    for bound in [1, 3, 6] {
        let ended = Case::new(text(bound)).run();
        assert_eq!(ended.log(), [format!("{bound}\ttrue\tsucceeded")]);
    }
}

#[test]
fn outputs_that_say_nothing_changed_are_told_apart() {
    check(
        r#"task("a"):command(function() return true, "as it was", { changed = false } end)
           task("b"):depends_on("a"):command(function() return true, "", { changed = true } end)"#,
        &["a unchanged: as it was", "b succeeded"],
    );
}

#[test]
fn conditions_decide_whether_a_task_runs() {
    check(
        r#"task("no"):run_if(function(params, deps) return false end):command(function() return true end)
           task("after"):depends_on("no"):command(function() return true end)
           task("yes"):run_if("true"):command(function() return true end)
           task("shell_no"):run_if("exit 3"):command(function() return true end)
           task("off"):run_if(false):command(function() return true end)
           task("command"):run_if(function() return exec.run("false") end):command(function() return true end)"#,
        &[
            "no skipped: `run_if` does not hold",
            "after succeeded",
            "yes succeeded",
            "shell_no skipped: `run_if` does not hold",
            "off skipped: `run_if` does not hold",
            "command skipped: `run_if` does not hold",
        ],
    );
}

#[test]
fn shell_commands_are_tasks() {
    let ended = Case::new(
        r#"task("say"):command("echo hello; echo $SLOTH_TASK $EXTRA"):env({ EXTRA = 1 })
           task("use"):depends_on("say"):command(function(_, _, deps) print(deps.say.stdout) return true end)
           task("fail"):shell("echo why >&2; exit 3")"#,
    )
    .run();
    assert_eq!(ended.lines(), ["say succeeded", "use succeeded", "fail failed: the command exited with status 3: why"]);
    assert!(ended.log().contains(&"use: hello".to_owned()), "{:?}", ended.log());
    assert_eq!(ended.end.tasks[0].outputs["stdout"], json!("hello\nsay 1"));
}

#[test]
fn hooks_are_called_in_order_and_cannot_break_the_run() {
    check_log(
        r#"
        task("t")
            :pre_hook(function(this, params, deps) print("pre", this.name()) return true end)
            :command(function() print("run") return true, "", { x = 1 } end)
            :post_hook(function(this, params, outputs) print("post", outputs.x) return true end)
            :on_success(function(this, params, outputs) print("success", outputs.x) end)
            :on_complete(function() print("complete") end)
        local t = task("u"):depends_on("t"):command(function() return true end)
        workflow.define("w"):tasks({ t }):on_start(function() print("start") end)
            :on_task_start(function(name) print("task start", name) end)
            :on_task_complete(function(name, ok) print("task complete", name, ok) end)
            :on_complete(function(success, results) print("done", success, results.u.status) end)
        "#
        .replace(":depends_on(\"t\")", "")
        .as_str(),
        &[
            "no workflow has these tasks, so they are not run: `t`",
            "start",
            "task start\tu",
            "task complete\tu\ttrue",
            "done\ttrue\tsucceeded",
        ],
    );
    check_log(
        r#"
        task("t")
            :pre_hook(function(this, params, deps) print("pre", this.name()) end)
            :command(function() print("run") return true, "", { x = 1 } end)
            :post_hook(function(this, params, outputs) print("post", outputs.x) return true end)
            :on_success(function(this, params, outputs) print("success", outputs.x) end)
            :on_complete(function() error("broken hook", 0) end)
        "#,
        &["t: pre\tt", "t: run", "t: post\t1", "t: success\t1", "t: a hook of the task failed: broken hook"],
    );
    check(
        r#"task("pre"):pre_hook(function() return false, "not today" end):command(function() return true end)
           task("post"):post_hook(function() error("bad state", 0) end):command(function() return true end)"#,
        &["pre failed: `pre_hook`: not today", "post failed: `post_hook`: bad state"],
    );
}

#[test]
fn values_outputs_and_files_of_the_bundle_are_there() {
    let mut case = Case::new(
        r#"
        local lib, again = require("lib.tools"), require("lib/tools")
        local shared = import("shared.lua")
        outputs = { url = values.host .. ":" .. Values.ports[2], same = lib == again }
        task("t"):command(function()
            outputs.late = lib.twice(shared.n)
            return require("log") == log and require("exec") == exec, "modules differ"
        end)
        "#,
    )
    .file("lib/tools.lua", "local m = {} function m.twice(n) return 2 * n end return m")
    .file("shared.lua", "print('imported') return 1, { n = 21 }");
    case.input.values = json!({"host": "web", "ports": [80, 443]});
    let ended = case.run();
    assert_eq!(ended.lines(), ["t succeeded: modules differ"]);
    assert_eq!(json!(ended.end.outputs), json!({"late": 42, "same": true, "url": "web:443"}));
    assert_eq!(ended.log(), ["imported"]);
}

#[test]
fn a_task_works_in_its_own_directory() {
    let ended = Case::new(
        r#"task("t"):workdir("sub/dir"):command(function(this)
               fs.write("note.txt", "here")
               local d = this.workdir
               print(d.exists(), d:exists(), tostring(d) == d.get(), fs.read(d.get() .. "/note.txt"))
               return d.recreate() and not fs.exists("note.txt"), "not empty"
           end)"#,
    )
    .run();
    assert_eq!(ended.lines(), ["t succeeded: not empty"], "{:?}", ended.log());
    assert_eq!(ended.log(), ["t: true\ttrue\ttrue\there"]);
    assert!(ended.dir.path().join("work/sub/dir").is_dir());
}

#[test]
fn artifacts_travel_between_tasks() {
    let ended = Case::new(
        r#"task("use"):workdir("b"):consumes({ "app.txt" }):command(function() return fs.read("app.txt") == "built", "other" end)
           task("make"):workdir("a"):artifacts("out/*.txt"):command(function()
               fs.mkdir("out") fs.write("out/app.txt", "built") return true end)
           task("none"):artifacts("*.zip"):command(function() return true end)
           task("lost"):consumes("nowhere"):command(function() return true end)"#,
    )
    .run();
    let lines = ended.lines();
    assert_eq!(lines[..2], ["use succeeded: other", "make succeeded"]);
    assert!(lines[2].starts_with("none failed: artifact `*.zip`: no file of `"), "{lines:?}");
    assert_eq!(lines[3], "lost failed: cannot consume `nowhere`: no task of this workflow has left it");
}

#[test]
fn tasks_for_this_host_run_and_others_are_refused() {
    let case = |name: &str| {
        let mut case = Case::new(
            r#"task("a"):delegate_to("local"):command(function(this) print(this.agent.get()) return true end)
               task("b"):delegate_to({ "localhost", "${values.host}" }):command("true")
               task("c"):delegate_to(function() return "web-1" end):command("true")"#,
        );
        case.input.agent = AgentInfo { name: name.into(), ..AgentInfo::default() };
        case.input.values = json!({"host": "web-1"});
        case
    };
    assert_eq!(case("web-1").run().log(), ["a: web-1"]);
    let error = case("db-1").try_run().err().expect("refused").to_string();
    assert_eq!(error, "task `b` is delegated to `web-1`, and this run can use only `local` or `db-1`");
    let plans = case("").load().expect("a plan");
    assert_eq!(plans[0].tasks()[1].delegate_to, ["localhost", "web-1"]);
}

#[test]
fn workflows_run_one_after_the_other_or_by_name() {
    let text = r#"
        workflow.define("one"):tasks({ task("a"):command(function() return false, "broken" end) })
        workflow.define("two"):tasks({ task("a"):command(function() return true end) })
    "#;
    let ended = Case::new(text).run();
    assert_eq!(ended.lines(), ["a failed: broken", "a succeeded"]);
    assert_eq!(ended.end.message, "workflow `one`: 1 of 1 tasks failed, first `a`: broken");
    let mut case = Case::new(text);
    case.input.workflow = Some("two".into());
    assert_eq!(case.run().lines(), ["a succeeded"]);
    let mut case = Case::new(text);
    case.input.workflow = Some("three".into());
    let error = case.try_run().err().expect("unknown").to_string();
    assert_eq!(error, "`main.sloth` has no workflow `three`: it has `one`, `two`");
}

#[test]
fn goroutines_and_coroutines_wait_with_their_task_and_end_with_it() {
    check_log(
        r#"
        task("t"):command(function()
            local n, wg = 0, goroutine.wait_group()
            for i = 1, 20 do
                wg:add(1)
                goroutine.spawn(function() goroutine.sleep(1) n = n + 1 wg:done() end)
            end
            wg:wait()
            -- A coroutine of the script that waits, and yields values of its own.
            local step = coroutine.wrap(function(a)
                goroutine.sleep(1)
                local b = coroutine.yield(a + 1)
                goroutine.sleep(1)
                return b + 1
            end)
            print(n, step(1), step(10))
            local co = coroutine.create(function() goroutine.sleep(1) error("inside", 0) end)
            print(coroutine.resume(co))
            print(pcall(function() goroutine.sleep(1) error({ code = 7 }) end))
            goroutine.spawn(function() goroutine.sleep(60000) print("never") end)
            return true
        end)
        "#
        .replace(
            "print(pcall(function() goroutine.sleep(1) error({ code = 7 }) end))",
            "local ok, e = pcall(function() goroutine.sleep(1) error({ code = 7 }) end) print(ok, e.code)",
        )
        .as_str(),
        &["t: 20\t2\t11", "t: false\tinside", "t: false\t7"],
    );
}

/// Files without dependencies count on the order of their list; those with some are graphs.
#[test]
fn a_list_is_done_from_its_top_to_its_end_and_a_graph_side_by_side() {
    let tasks = |first: &str, settings: &str| {
        format!(
            "local begun = 0
            local function both() begun += 1; goroutine.sleep(20); return begun == 2 end
            workflow.define('w'):tasks({{
                task('one'){first}:command(function() return true, tostring(both()) end),
                task('two'):command(function() return true, tostring(both()) end),
            }}){settings}"
        )
    };
    for (first, settings, saw_both) in [
        ("", "", false),
        ("", ":config({ max_parallel_tasks = 2 })", true),
        (":async(true)", "", true),
        (":depends_on('two')", "", false),
    ] {
        let ended = Case::new(tasks(first, settings)).run();
        let one =
            ended.end.tasks.iter().find(|end| end.task.task == if first.contains("depends") { "two" } else { "one" });
        assert_eq!(
            one.map(|end| end.message.as_str()),
            Some(if saw_both { "true" } else { "false" }),
            "{first}{settings}"
        );
    }
    check(
        "task('write'):command('echo text > file') task('read'):command('cat file')",
        &["write succeeded", "read succeeded"],
    );
}

#[test]
fn tasks_alone_may_name_their_workflow_and_say_nothing_at_their_end() {
    check_log(
        "workflow('users', { description = 'People' })
        task('create', { workflow = 'users', description = 'Make', action = function() print('made') end })
        task({ name = 'tell', workflow = 'users', run = function() print('told') end })
        task('elsewhere', { workflow = 'other', action = function() print('there') end })",
        &["create: made", "tell: told", "elsewhere: there"],
    );
    check(
        "workflow.define('w', { tasks = { { name = 'a', command = function() end }, { name = 'b', run = function() end } } })",
        &[
            "a failed: the command returned nothing: end it with `return true` or `return false, message`",
            "b succeeded",
        ],
    );
}

#[test]
fn a_task_of_another_user_begins_where_that_user_may_be() {
    let text = "local where = 'test \"$(pwd -P)\" = \"$(cd ~ 2> /dev/null && pwd -P || echo /)\"'
        task('home'):user('nobody'):command(where)
        task('said'):user('nobody'):workdir('/usr'):command('test \"$(pwd)\" = /usr')
        task('made'):user('nobody'):workdir('made/deep'):command('touch it && test -O .')
        task('again'):depends_on('made'):user('nobody'):workdir('made'):command('test -f deep/it && touch it')
        task('self'):user('root'):command('test \"$(pwd -P)\" != \"$(cd ~ && pwd -P)\"')";
    if rustix::process::geteuid().is_root() {
        check(text, &["home succeeded", "said succeeded", "made succeeded", "again succeeded", "self succeeded"]);
    }
}

#[test]
fn a_run_that_only_checks_looks_at_conditions_and_leaves_files_alone() {
    let mut case = Case::new(
        "task('no'):unless('true'):command('touch made')
        task('yes'):run_if('true'):artifacts('out/*.txt'):command('mkdir -p out; touch out/a.txt')
        task('next'):depends_on('yes'):consumes('a.txt'):command('cat a.txt')",
    );
    case.input.check = true;
    let ended = case.run();
    let statuses: Vec<_> = ended.end.tasks.iter().map(|end| (end.task.task.as_str(), end.status.as_str())).collect();
    assert_eq!(statuses, [("no", "skipped"), ("yes", "succeeded"), ("next", "succeeded")], "{:?}", ended.lines());
    assert!(!ended.dir.path().join("work/out").exists() && !ended.dir.path().join("work/made").exists());
}
