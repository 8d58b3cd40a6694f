use super::*;

fn regex(text: &str) -> Regex {
    Regex::new(text).expect(text)
}

fn line(matched: Matched, place: Place) -> Line {
    Line { matched, first_only: false, expanded: false, place }
}

#[test]
fn lines_are_put_in_once() {
    for (before, wanted, after) in [
        ("", "b", "b\n"),
        ("a\n", "b", "a\nb\n"),
        ("a", "b", "a\nb\n"),
        ("a\nb\n", "b", "a\nb\n"),
        ("a\nb", "b", "a\nb"),
        ("a\r\n", "b", "a\r\nb\r\n"),
        ("a\r\nb\r\n", "b", "a\r\nb\r\n"),
        ("\n\n", "b", "\n\nb\n"),
    ] {
        let changed = with_line(before.as_bytes(), wanted.as_bytes(), &line(Matched::Itself, Place::End));
        let changed = changed.expect("a text");
        assert_eq!(String::from_utf8_lossy(&changed), after, "{before:?}");
        let again = with_line(&changed, wanted.as_bytes(), &line(Matched::Itself, Place::End)).expect("a text");
        assert_eq!(again, changed, "{before:?} twice");
    }
}

#[test]
fn lines_that_match_are_changed_in_their_place() {
    for (before, pattern, wanted, after) in [
        ("x=1\ny=2\n", "^x=", "x=3", "x=3\ny=2\n"),
        ("x=1\nx=2", "^x=", "x=3", "x=3\nx=3"),
        ("x=1\r\ny\r\n", "^x=1$", "x=3", "x=3\r\ny\r\n"),
        ("y=2\n", "^x=", "x=3", "y=2\nx=3\n"),
        ("y=2\nx=3\n", "^#?x=9", "x=3", "y=2\nx=3\n"),
    ] {
        let wanted_line = line(Matched::By(regex(pattern)), Place::End);
        let changed = with_line(before.as_bytes(), wanted.as_bytes(), &wanted_line).expect("a text");
        assert_eq!(String::from_utf8_lossy(&changed), after, "{before:?}");
    }
    let first = Line { first_only: true, ..line(Matched::By(regex("^x")), Place::End) };
    assert_eq!(with_line(b"x\nx\n", b"y", &first).expect("a text"), b"y\nx\n");
    let expanded = Line { expanded: true, ..line(Matched::By(regex(r"^(\w+)=.*$")), Place::End) };
    assert_eq!(with_line(b"x=1\n-\n", b"$1=2", &expanded).expect("a text"), b"x=2\n-\n");
    assert_eq!(with_line(b"-\n", b"$1=2", &expanded).expect("a text"), b"-\n");
    let holding = line(Matched::Holding(b"x.".to_vec()), Place::End);
    assert_eq!(with_line(b"a x. b\nxy\n", b"z", &holding).expect("a text"), b"z\nxy\n");
}

#[test]
fn new_lines_go_where_they_belong() {
    for (place, after) in [
        (Place::Start, "n\na\nb\na\n"),
        (Place::End, "a\nb\na\nn\n"),
        (Place::After(regex("^a")), "a\nb\na\nn\n"),
        (Place::After(regex("^b")), "a\nb\nn\na\n"),
        (Place::Before(regex("^b")), "a\nn\nb\na\n"),
        (Place::Before(regex("^x")), "a\nb\na\nn\n"),
    ] {
        let shown = format!("{place:?}");
        let changed = with_line(b"a\nb\na\n", b"n", &line(Matched::Itself, place)).expect("a text");
        assert_eq!(String::from_utf8_lossy(&changed), after, "{shown}");
    }
}

#[test]
fn lines_are_taken_out() {
    assert_eq!(without_line(b"a\nb\r\na", b"a", &Matched::Itself), b"b\r\n");
    assert_eq!(without_line(b"ab\nb\nac\n", b"", &Matched::By(regex("^a"))), b"b\n");
}

#[test]
fn blocks_are_put_in_changed_and_taken_out() {
    let block = |place| Block { begin: b"# B".to_vec(), end: b"# E".to_vec(), place };
    for (before, inside, after) in [
        ("", Some("x"), "# B\nx\n# E\n"),
        ("a\n", Some("x\ny\n"), "a\n# B\nx\ny\n# E\n"),
        ("a", Some("x"), "a\n# B\nx\n# E\n"),
        ("a\r\n", Some("x\ny"), "a\r\n# B\r\nx\r\ny\r\n# E\r\n"),
        ("a\n# B\nold\nolder\n# E\nb\n", Some("x"), "a\n# B\nx\n# E\nb\n"),
        ("a\n  # B\nold\n# E  \nb\n", None, "a\nb\n"),
        ("# B\nx\n# E", Some("y"), "# B\ny\n# E"),
        ("a\n", None, "a\n"),
        ("a\n", Some(""), "a\n# B\n# E\n"),
    ] {
        let changed = with_block(before.as_bytes(), inside.map(str::as_bytes), &block(Place::End)).expect("a text");
        assert_eq!(String::from_utf8_lossy(&changed), after, "{before:?}");
        let again = with_block(&changed, inside.map(str::as_bytes), &block(Place::End)).expect("a text");
        assert_eq!(again, changed, "{before:?} twice");
    }
    let start = with_block(b"a\n", Some(b"x"), &block(Place::Start)).expect("a text");
    assert_eq!(start, b"# B\nx\n# E\na\n");
    let broken = with_block(b"# B\nx\n", Some(b"y"), &block(Place::End)).expect_err("no end");
    assert_eq!(broken, "the line `# B` begins a block that no line `# E` ends: mend the file by hand");
}

#[test]
fn replacing_is_bounded() {
    assert_eq!(replaced(b"a1b22", &regex(r"(\d+)"), b"<$1>", usize::MAX).expect("a text"), b"a<1>b<22>");
    assert_eq!(replaced(b"aaa", &regex("a"), b"b", 2).expect("a text"), b"bba");
    assert_eq!(replaced(b"\xff1", &regex(r"\d"), b"2", 9).expect("a text"), b"\xff2");
    let huge = replaced(&[b'a'; 100_000], &regex("a"), &[b'x'; 10_000], usize::MAX).expect_err("too large");
    assert!(huge.contains("would be larger than"), "{huge}");
    let many = "$0".repeat(100_000);
    let huge = replaced(&[b'a'; 100_000], &regex("a+"), many.as_bytes(), 1).expect_err("too large");
    assert!(huge.contains("would be larger than"), "{huge}");
}
