//! Each module by a script of its own in `lua/modules`.
//!
//! A script runs as one task of a run whose host lives in memory. It checks with `equal`, `check` and `raises` from
//! `harness.luau`; the first check that does not hold ends it with the line.

#![expect(clippy::expect_used, clippy::panic, reason = "that is how a test fails")]

use std::{
    collections::BTreeMap,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use serde_json::Value;
use sloth_core::Millis;
use sloth_workflow::{
    AgentInfo, Capabilities, Capability, Host, Limits, MemoryHost, StateError, StateOperation, StateReply, Stream,
    TaskName,
    modules::{self, Context, Phase, Scope, ScopeId},
    process::Processes,
};

#[path = "modules/git.rs"]
mod git_checks;
#[path = "modules/http.rs"]
mod http_checks;
#[path = "modules/server.rs"]
mod server;
#[path = "modules/signals.rs"]
mod signals;
#[path = "modules/stow.rs"]
mod stow_checks;
#[path = "modules/system.rs"]
mod system;

const HARNESS: &str = include_str!("../lua/modules/harness.luau");
/// What the clock of the host says.
const NOW: Millis = Millis::from_secs(1_700_000_000);
/// No script takes that long; one that hangs fails here.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Short, since one test waits for its end.
const KILL_GRACE: Duration = Duration::from_millis(300);

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { check(include_str!(concat!("../lua/modules/", stringify!($name), ".luau")), Capabilities::all()); })*
    };
}

scripts!(
    async_functions,
    circuit,
    crypto,
    csv,
    data,
    event,
    exec,
    facts,
    file_archives,
    file_ops,
    fs,
    git,
    goroutine,
    goroutine_channels,
    goroutine_sync,
    goroutine_work,
    infra_test,
    io,
    json,
    log,
    math,
    metrics,
    options,
    os,
    perf,
    reliability,
    require,
    state,
    stow,
    strings,
    template,
    time,
    toml,
    validate,
    values,
    watcher,
    xml,
    yaml
);

#[test]
fn denied() {
    check(include_str!("../lua/modules/denied.luau"), Capabilities::none());
}

#[test]
fn reading_is_not_writing() {
    let script =
        "check(fs.exists('/')); raises('fs:write', fs.write, 'x', 'y'); raises('`exec` is not', os.execute, 'true')";
    check(script, [Capability::FsRead].into_iter().collect());
}

#[test]
fn a_scope_is_the_border_of_what_is_reached() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |path: &str| dir.path().join(path);
    for made in ["in/sub", "seen", "out"] {
        std::fs::create_dir_all(at(made)).expect("a directory");
    }
    for (file, text) in [("in/a", "a"), ("seen/s", "s"), ("out/secret", "secret")] {
        sloth_core::fs::replace(&at(file), text.as_bytes(), sloth_core::fs::Access::Everyone).expect("a file");
    }
    std::os::unix::fs::symlink(at("out"), at("in/out")).expect("a link");
    std::os::unix::fs::symlink(at("out/secret"), at("in/secret")).expect("a link");
    let grants = [
        format!("fs:write:{}", at("in").display()),
        format!("fs:read:{}", at("in").display()),
        format!("fs:read:{}", at("seen").display()),
    ];
    let script = format!("local root = '{}'\n{}", dir.path().display(), include_str!("../lua/modules/scoped.luau"));
    check(&script, Capabilities::parse(grants).expect("grants"));
    assert_eq!(std::fs::read_to_string(at("out/secret")).expect("still there"), "secret");
    assert_eq!(std::fs::read_dir(at("out")).expect("a directory").count(), 1, "nothing was added");
}

#[test]
fn a_task_that_chooses_its_directory_does_not_see_what_is_in_it() {
    for (capabilities, dir, expected) in [
        (Capabilities::none(), "/", Some("capability `fs:read` is not granted")),
        ([Capability::FsRead].into_iter().collect(), "/", None),
        (Capabilities::none(), "", None),
    ] {
        let mut bench = Bench::new(capabilities, Phase::Run);
        let workdir = bench.context.workdir.join(dir);
        bench.scope = Rc::new(Scope::new(ScopeId(2), None, workdir, Instant::now() + SCRIPT_TIMEOUT));
        let ended = bench.run("fs.ls()").err().unwrap_or_default();
        assert!(ended.contains(expected.unwrap_or("")) && ended.is_empty() == expected.is_none(), "`{dir}`: {ended}");
    }
}

#[test]
fn open_files_hold_no_more_than_the_run_may() {
    let limits = Limits { memory_bytes: 100_000, ..Limits::default() };
    let bench = Bench::bounded(Capabilities::all(), Phase::Run, limits);
    let script = "
        fs.write('file', string.rep('x', 40000))
        local first, second = io.open('file'), io.open('file')
        local full = 'hold more than the memory of the run'
        raises(full, io.open, 'file')
        raises(full, io.lines, 'file')
        local fed = io.popen('cat > /dev/null', 'w')
        raises(full, fed.write, fed, string.rep('x', 40000))
        check(fed:close() and first:close())
        equal(#io.open('file'):read('*a'), 40000)
        second = nil
        for _ = 1, 20 do io.open('file') end";
    bench.run(script).expect("every check holds");
}

#[test]
fn planning() {
    let bench = Bench::new(Capabilities::all(), Phase::Plan);
    bench.run(include_str!("../lua/modules/planning.luau")).expect("every check holds");
}

#[test]
fn checking() {
    let bench = Bench::new(Capabilities::all(), Phase::Check);
    bench.run(include_str!("../lua/modules/check.luau")).expect("every check holds");
    let lines: Vec<_> = bench.host.lines.take().into_iter().map(|line| line.text.replace("would run: ", "")).collect();
    assert_eq!(lines.join(", "), "echo made > made; echo out, seen, touch made, touch made, touch made, cat > made");
}

#[test]
fn checking_files() {
    let bench = Bench::new(Capabilities::all(), Phase::Check);
    bench.run(include_str!("../lua/modules/check_files.luau")).expect("every check holds");
    let told: Vec<_> = bench.host.lines.take().into_iter().map(|line| line.text).collect();
    let dir = bench.context.workdir.display();
    for expected in [
        &format!("would write `{dir}/new/file`") as &str,
        "-two",
        "+three",
        &format!("would append to `{dir}/old`"),
        "+four",
        &format!("would remove `{dir}/d`"),
        "would change mode 640 → 600",
    ] {
        assert!(told.iter().any(|line| line.contains(expected)), "`{expected}` is not told: {told:#?}");
    }
    assert!(!told.iter().any(|line| line.contains("remove") && line.contains("gone")), "{told:#?}");
}

#[test]
fn lines_arrive_in_the_name_of_their_task_and_stream() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    bench.run("exec.run('echo out; echo err >&2'); log.info('told', {a = 1}); log.print('raw')").expect("a run");
    let mut lines: Vec<_> = bench.host.lines.take().into_iter().map(|line| (line.stream, line.text)).collect();
    // The two streams of one command race.
    lines.sort();
    let level = Stream::Log(sloth_workflow::Level::Info);
    let expected = [(level, "told a=1"), (Stream::Stdout, "out"), (Stream::Stdout, "raw"), (Stream::Stderr, "err")];
    assert_eq!(lines, expected.map(|(stream, text)| (stream, text.to_owned())));
}

#[test]
fn a_quiet_command_says_nothing_and_a_long_line_is_cut() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    bench.run("exec.run('echo secret', {quiet = true}); exec.run('printf %020000d 7')").expect("a run");
    let lines = bench.host.lines.take();
    assert!(lines.iter().all(|line| line.text.len() <= Limits::default().log_line_bytes), "no line is too long");
    assert_eq!(lines.iter().map(|line| line.text.len()).sum::<usize>(), 20_000);
}

#[test]
fn what_a_goroutine_raises_is_a_warning_of_its_task() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    bench.run("goroutine.spawn(function() error('lost') end) goroutine.sleep(1)").expect("a run");
    let lines = bench.host.lines.take();
    let [line] = &lines[..] else { panic!("one line, got {lines:?}") };
    assert_eq!(line.stream, Stream::Log(sloth_workflow::Level::Warn));
    assert_eq!(line.task.as_ref().map(ToString::to_string), Some("test/script".to_owned()));
    assert!(line.text.contains("a goroutine failed") && line.text.contains("lost"), "{}", line.text);
}

#[test]
fn a_run_that_only_checks_keeps_what_it_would_write_to_itself() {
    let bench = Bench::new(Capabilities::all(), Phase::Check);
    let set = |key: &str, value: Value, ttl| {
        let operation = StateOperation::Set { key: key.to_owned(), value, ttl };
        ask(&bench.host, operation).expect("set");
    };
    set("before", 1.into(), None);
    set("gone", true.into(), None);
    set("list", vec![1].into(), Some(Millis::from_secs(60)));
    bench.run(include_str!("../lua/modules/check_state.luau")).expect("every check holds");
    let keys = ask(&bench.host, StateOperation::Keys { prefix: String::new() }).expect("keys");
    let entry = |key: &str, value: Value| (key.to_owned(), value);
    let expected = vec![entry("before", 1.into()), entry("gone", true.into()), entry("list", vec![1].into())];
    assert_eq!(keys, StateReply::Keys(expected));
}

/// A second attempt at a task has what the first one left locked; another task waits.
#[test]
fn a_lock_is_left_to_the_next_attempt_at_its_task() {
    let mut bench = Bench::new(Capabilities::all(), Phase::Run);
    bench.run("check(state.lock('deploy'))").expect("it is free");
    bench.scope.stop();
    let again = |bench: &Bench, task: &str| {
        let task = TaskName { workflow: "test".to_owned(), task: task.to_owned() };
        Rc::new(Scope::new(ScopeId(9), Some(task), bench.context.workdir.clone(), Instant::now() + SCRIPT_TIMEOUT))
    };
    bench.scope = again(&bench, "other");
    bench.run("refused('is held', state.lock('deploy', 0.01))").expect("every check holds");
    bench.scope = again(&bench, "script");
    bench.run("check(state.lock('deploy', 0.01)) check(state.unlock('deploy'))").expect("every check holds");
}

/// Nobody waits for a timeout that is seconds away: all is known at once.
#[test]
fn coroutines_that_wait_for_each_other_are_named() {
    let main = "task `script` at script:";
    for (script, expected) in [
        ("goroutine.channel():receive()", vec![format!("{main}1 waits to receive from a channel")]),
        (
            "local a, b = goroutine.mutex(), goroutine.mutex()
            a:lock()
            goroutine.spawn(function()
                b:lock()
                a:lock()
            end)
            goroutine.sleep(1)
            b:lock()",
            vec![format!("{main}8 waits to lock a mutex"), "a goroutine at script:5 waits to lock a mutex".to_owned()],
        ),
        (
            "local wg, results = goroutine.wait_group(), goroutine.channel()
            for i = 1, 3 do
                wg:add(1)
                goroutine.spawn(function()
                    results:send(i)
                    wg:done()
                end)
            end
            wg:wait()",
            vec![
                format!("{main}9 waits for a wait_group that still counts 3"),
                "a goroutine at script:5 waits to send on a channel (3 of them)".to_owned(),
            ],
        ),
        (
            "local h = goroutine.async(function() goroutine.semaphore(1):acquire() goroutine.once():call(function()
                goroutine.cond():wait() end) goroutine.select({{channel = goroutine.channel(), receive = true}}) end)
            goroutine.await(h)",
            vec![
                format!("{main}3 waits for the result of a goroutine"),
                "a goroutine at script:2 waits in a select for one of its channels".to_owned(),
            ],
        ),
    ] {
        let bench = Bench::new(Capabilities::all(), Phase::Run);
        let began = Instant::now();
        let error = bench.run(script).expect_err("a deadlock");
        assert!(error.contains("deadlock: nothing can go on: "), "{error}");
        for part in expected {
            assert!(error.contains(&part), "`{part}` is not in: {error}");
        }
        assert!(began.elapsed() < Duration::from_secs(5), "it was seen late");
    }
}

/// A script may catch it, and one that is alone with its send hears of it as an answer.
#[test]
fn a_deadlock_is_survived() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    let script = "
        local ch = goroutine.channel()
        goroutine.select({{channel = ch, receive = true}, {default = true, handler = function() log.info('default') end}})
        equal(ch:send('Hello'), true)
        equal(ch:receive(), 'Hello')
        local sent, reason = ch:send('again')
        equal({sent, reason}, {false, 'deadlock'})
        equal({ch:try_receive()}, {nil, false})
        raises('deadlock', ch.receive)
        goroutine.spawn(function() ch:send('later') end)
        equal(ch:receive(), 'later')
        equal({goroutine.select_timeout(1, {{channel = ch, receive = true}})}, {true})";
    bench.run(script).expect("every check holds");
    let lines: Vec<_> = bench.host.lines.take().into_iter().map(|line| line.text).collect();
    assert_eq!(lines, ["default", "channel.send: nobody is left who could receive, so it was not sent"]);
}

/// Ten thousand goroutines in pairs: each hands a value back and forth.
#[test]
fn ten_thousand_goroutines_play_ping_pong() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    let script = "
        local wg, sum = goroutine.wait_group(), 0
        for pair = 1, 5000 do
            local there, back = goroutine.channel(), goroutine.channel()
            wg:add(2)
            goroutine.spawn(function()
                for i = 1, 10 do there:send(i) sum += back:receive() end
                wg:done()
            end)
            goroutine.spawn(function()
                for _ = 1, 10 do back:send(there:receive() + 1) end
                wg:done()
            end)
        end
        wg:wait()
        equal(sum, 5000 * 65)";
    let began = Instant::now();
    bench.run(script).expect("every check holds");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_machine_is_freed_with_all_its_modules() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    let script = "kept = {io.open('file', 'w'), goroutine.wait_group(), io.lines('file'), exec.run('true')}
        goroutine.spawn(function() goroutine.sleep(60000) end)
        local ch, held = goroutine.channel(3), goroutine.mutex()
        event.on('*', function() return kept end)
        watcher.register.custom({check = function() return kept end, handler = function() return kept end})
        metrics.gauge('kept', 1)
        ch:send(ch) ch:send(function() return ch, held end) held:lock()
        goroutine.spawn(function() held:lock() end)
        goroutine.pool_create('p')
        goroutine.sleep(1)";
    bench.run(script).expect("a run");
    bench.scope.stop();
    let machine = bench.lua.weak();
    drop(bench);
    assert!(machine.try_upgrade().is_none(), "something keeps the machine that the machine keeps");
}

#[test]
fn a_command_runs_as_the_user_of_its_task() {
    let script = "local out, reason = exec.run('id -un; id -G; echo $USER', {workdir = '/'})
        equal(out.stdout, 'nobody\\n' .. exec.run('id -g nobody').stdout .. 'nobody\\n')";
    let script = if rustix::process::geteuid().is_root() {
        script
    } else {
        "raises('only root can run commands as another user, here `nobody`', exec.run, 'true')"
    };
    as_user("nobody").run(script).expect("every check holds");
    let missing = "raises('there is no user `no-one-here` in /etc/passwd', exec.run, 'true')";
    as_user("no-one-here").run(missing).expect("every check holds");
}

#[test]
fn ending_a_scope_ends_its_commands_with_all_that_they_started() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    let marker = bench.dir.path().join("marker");
    let line = format!("(trap '' TERM; sleep 300) & echo $! > {}; wait", marker.display());
    let pid = bench.block_on(async {
        let call: mlua::Function =
            bench.lua.load("return function(line) exec.run(line) end").eval().expect("a function");
        let running = bench.context.current.enter(Rc::clone(&bench.scope), call.call_async::<()>(line));
        let killer = async {
            while !std::fs::read_to_string(&marker).is_ok_and(|text| text.ends_with('\n')) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            bench.context.processes.kill(bench.scope.id).await;
        };
        let ((), ended) = futures_util::future::join(killer, running).await;
        ended.expect("the script sees a failed command");
        std::fs::read_to_string(&marker).expect("a process number").trim().parse::<i32>().expect("a number")
    });
    // Who adopts it may take a moment to bury it.
    let end = Instant::now() + SCRIPT_TIMEOUT;
    while is_running(pid) {
        assert!(Instant::now() < end, "the child that ignores SIGTERM must go too");
        std::thread::yield_now();
    }
    assert!(bench.context.processes.is_empty());
}

#[test]
fn a_dropped_task_ends_its_command() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    bench.block_on(async {
        let call: mlua::Function =
            bench.lua.load("return function() exec.run('sleep 300') end").eval().expect("a function");
        let running = bench.context.current.enter(Rc::clone(&bench.scope), call.call_async::<()>(()));
        let started = async {
            while bench.context.processes.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        futures_util::future::select(Box::pin(started), Box::pin(running)).await;
        // The coroutine went with the selection; the end of the group is awaited here.
        assert_eq!(bench.context.processes.len(), 1);
        bench.context.processes.kill_all().await;
        assert!(bench.context.processes.is_empty());
    });
}

/// Runs a script with what the host grants it.
#[track_caller]
fn check(script: &str, capabilities: Capabilities) {
    let bench = Bench::new(capabilities, Phase::Run);
    if let Err(error) = bench.run(script) {
        panic!("{error}\nlog: {:#?}", bench.host.lines.take().iter().map(|line| &line.text).collect::<Vec<_>>());
    }
}

fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, state)| !state.starts_with(" Z"))
}

fn as_user(name: &str) -> Bench {
    let mut bench = Bench::new(Capabilities::all(), Phase::Run);
    let scope = Rc::get_mut(&mut bench.scope).expect("nothing runs");
    scope.user = Some(name.to_owned());
    // The test's own directory is closed to others.
    scope.workdir = "/".into();
    bench
}

/// A machine with the modules, and the task that scripts run as.
struct Bench {
    lua: mlua::Lua,
    context: Rc<Context>,
    scope: Rc<Scope>,
    host: Rc<MemoryHost>,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(capabilities: Capabilities, phase: Phase) -> Self {
        Self::bounded(capabilities, phase, Limits::default())
    }

    /// Another machine in the directories of one that was, with everything granted.
    fn in_place(before: &Context, phase: Phase) -> Self {
        let mut bench = Self::bounded(Capabilities::all(), phase, Limits::default());
        bench.scope = Rc::new(Scope::new(ScopeId(1), None, before.workdir.clone(), Instant::now() + SCRIPT_TIMEOUT));
        bench
    }

    fn bounded(capabilities: Capabilities, phase: Phase, limits: Limits) -> Self {
        Self::searching(capabilities, phase, limits, sloth_workflow::SEARCH_PATH)
    }

    /// A machine that looks for programs in a directory of its own and then in `search_path`.
    fn searching(capabilities: Capabilities, phase: Phase, limits: Limits, search_path: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let host = Rc::new(MemoryHost::standing_at(NOW));
        let (bundle_dir, workdir) = (dir.path().join("bundle"), dir.path().join("work"));
        fill(&bundle_dir);
        std::fs::create_dir(&workdir).expect("a directory");
        let context = Rc::new(Context {
            capabilities: Rc::new(capabilities),
            limits: Rc::new(limits),
            bundle_dir,
            workdir: workdir.clone(),
            run_id: "01JD5Z3V9QK7T2M4X8R6WBCY0N".to_owned(),
            agent: AgentInfo { name: "web-1".to_owned(), labels: [("role".to_owned(), "web".to_owned())].into() },
            processes: Rc::new(Processes::with_grace(KILL_GRACE)),
            // A test may put programs of its own first.
            search_path: format!("{}:{search_path}", dir.path().join("bin").display()),
            ..Context::new(Rc::clone(&host) as Rc<dyn Host>, phase)
        });
        let task = TaskName { workflow: "test".to_owned(), task: "script".to_owned() };
        let mut scope = Scope::new(ScopeId(1), Some(task), workdir, Instant::now() + SCRIPT_TIMEOUT);
        scope.env = BTreeMap::from([("FROM_TASK".to_owned(), "yes".to_owned())]);
        let lua = mlua::Lua::new();
        modules::install(&lua, &context).expect("modules");
        let require = lua.create_function(|lua, name: String| modules::find(lua, &name)).expect("a function");
        lua.globals().set("require", require).expect("a global");
        lua.load(HARNESS).set_name("=harness").exec().expect("the harness");
        lua.sandbox(true).expect("a sandbox");
        Self { lua, context, scope: Rc::new(scope), host, dir }
    }

    fn run(&self, script: &str) -> Result<(), String> {
        self.run_within(SCRIPT_TIMEOUT, script)
    }

    fn run_within(&self, limit: Duration, script: &str) -> Result<(), String> {
        let function = self.lua.load(script).set_name("=script").into_function().map_err(|error| error.to_string())?;
        let running = self.context.current.enter(Rc::clone(&self.scope), function.call_async::<()>(()));
        let ended = self.block_on(async { tokio::time::timeout(limit, running).await });
        ended.map_err(|_| "the script hangs".to_owned())?.map_err(|error| error.to_string())
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, future)
    }
}

/// The bundle that scripts read, with a link that leads out of it.
fn fill(bundle: &Path) {
    let write = |name: &str, text: &str| {
        sloth_core::fs::replace(&bundle.join(name), text.as_bytes(), sloth_core::fs::Access::Everyone).expect("a file");
    };
    std::fs::create_dir_all(bundle.join("templates")).expect("a directory");
    write("hello.txt", "hello from the bundle\n");
    write("templates/motd.j2", "{% include 'templates/head.j2' %}Welcome to {{ host }}\n");
    write("templates/head.j2", "== {{ title }} ==\n");
    std::os::unix::fs::symlink("/etc/passwd", bundle.join("outside")).expect("a link");
}

/// Asks the state of a host.
fn ask(host: &MemoryHost, operation: StateOperation) -> Result<StateReply, StateError> {
    host.state.borrow_mut().apply(operation, host.now())
}
