use super::*;

fn grants(texts: &[&str]) -> Capabilities {
    Capabilities::parse(texts).expect("grants")
}

#[test]
fn names_round_trip() {
    for capability in Capability::ALL {
        assert_eq!(capability.to_string().parse(), Ok(Grant::whole(capability)));
    }
    let set = grants(&["fs:read", "exec"]);
    assert!(set.allows(Capability::Exec) && set.allows(Capability::FsRead) && !set.allows(Capability::State));
    assert_eq!(set.names().collect::<Vec<_>>(), ["exec", "fs:read"]);
    assert_eq!(Capabilities::all().names().count(), Capability::ALL.len());
}

#[test]
fn scopes_round_trip_in_their_plain_form() {
    for (text, plain) in [
        ("fs:write:/etc/nginx/", "fs:write:/etc/nginx"),
        ("fs:read:/", "fs:read:/"),
        ("net:API.example.com.", "net:api.example.com"),
        ("net:*.example.com:443", "net:*.example.com:443"),
        ("net:*:53", "net:*:53"),
        ("net:[0::1]:80", "net:[::1]:80"),
        ("net:[::1]", "net:[::1]"),
        ("net:10.0.0.1:1", "net:10.0.0.1:1"),
        ("pkg:lib*-dev", "pkg:lib*-dev"),
        ("service:getty@tty1.service", "service:getty@tty1.service"),
        ("state:app:count", "state:app:count"),
        ("secrets:db_password", "secrets:db_password"),
    ] {
        let grant: Grant = text.parse().expect(text);
        assert_eq!(grant.to_string(), plain);
        assert_eq!(plain.parse(), Ok(grant));
        let json = serde_json::to_string(&grants(&[text])).expect("JSON");
        assert_eq!(json, format!("[\"{plain}\"]"));
        assert_eq!(serde_json::from_str::<Capabilities>(&json).expect("grants"), grants(&[text]));
    }
}

#[test]
fn what_is_no_grant_is_told_with_the_way_out() {
    for (text, expected) in [
        ("nett", "there is no capability `nett`: did you mean `net`? known are `exec`, `fs:read`, "),
        ("servce:nginx", "there is no capability `servce:nginx`: did you mean `service`? "),
        ("fs:wirte:/etc", "did you mean `fs:write`? "),
        ("fs", "there is no capability `fs`: "),
        ("", "there is no capability ``: known are "),
        ("execute", "there is no capability `execute`"),
        ("exec:ls", "the capability `exec` has no scopes, and `exec:ls` names one: write `exec`"),
        ("fs:write:etc", "`etc` is no scope of the capability `fs:write`: write an absolute path without `..`"),
        ("fs:write:/etc/../root", "`/etc/../root` is no scope"),
        ("fs:read:", "`` is no scope of the capability `fs:read`"),
        ("net:", "`` is no scope of the capability `net`: write a host"),
        ("net:a b", "`a b` is no scope"),
        ("net:x.*.com", "`x.*.com` is no scope"),
        ("net:host:http", "`host:http` is no scope"),
        ("net:host:70000", "`host:70000` is no scope"),
        ("net:::1", "`::1` is no scope"),
        ("net:[::1", "`[::1` is no scope"),
        ("net:https://x", "`https://x` is no scope"),
        ("pkg:a b", "`a b` is no scope of the capability `pkg`: write a name"),
    ] {
        let error = text.parse::<Grant>().expect_err(text).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let many = (0..=GRANTS_MAX).map(|n| format!("pkg:p{n}"));
    assert_eq!(Capabilities::parse(many), Err(InvalidGrant::TooMany { count: GRANTS_MAX + 1 }));
    assert!(format!("pkg:{}", "x".repeat(2000)).parse::<Grant>().is_err());
}

#[test]
fn a_scope_grants_what_it_names_and_nothing_beside() {
    let set = grants(&["net:api.example.com", "net:*.example.org:443", "net:[::1]:80", "pkg:nginx*", "service:nginx"]);
    for (host, port, expected) in [
        ("api.example.com", 1, true),
        ("API.Example.com.", 443, true),
        ("x.api.example.com", 443, false),
        ("a.example.org", 443, true),
        ("a.b.example.org", 443, true),
        ("a.example.org", 80, false),
        ("example.org", 443, false),
        (".example.org", 443, false),
        ("evilexample.org", 443, false),
        ("::1", 80, true),
        ("[0:0::1]", 80, true),
        ("::1", 81, false),
        ("127.0.0.1", 80, false),
    ] {
        assert_eq!(set.allows_host(host, port), expected, "{host}:{port}");
    }
    assert!(grants(&["net:*"]).allows_host("anything", 9) && grants(&["net"]).allows_host("anything", 9));
    assert!(!grants(&["net:*:53"]).allows_host("anything", 54));
    assert!(grants(&["net:127.0.0.1"]).allows_host("::ffff:127.0.0.1", 1), "one address has one form");
    for (capability, name, expected) in [
        (Capability::Pkg, "nginx-extras", true),
        (Capability::Pkg, "apache2", false),
        (Capability::Service, "nginx", true),
        (Capability::Service, "nginx2", false),
        (Capability::User, "nginx", false),
    ] {
        assert_eq!(set.allows_name(capability, name), expected, "{capability}:{name}");
    }
    assert!(!set.allows(Capability::Pkg) && set.allows_some(Capability::Pkg) && !set.allows_some(Capability::User));
    assert!(grants(&["user"]).allows_name(Capability::User, "ada"));
}
