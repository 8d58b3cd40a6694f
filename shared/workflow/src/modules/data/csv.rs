//! Comma separated values as RFC 4180 has them.

/// The rows of `text`. A cell in quotes may hold separators, line ends and doubled quotes. A line with nothing in it is
/// no row.
pub(super) fn parse(text: &str, separator: char) -> Result<Vec<Vec<String>>, String> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut chars = text.chars().peekable();
    while chars.peek().is_some() {
        if row.is_empty() && skip_empty_line(&mut chars) {
            continue;
        }
        let mut cell = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    Some('"') if chars.next_if_eq(&'"').is_none() => break,
                    Some(char) => cell.push(char),
                    None => return Err(format!("row {}: a quote is not closed", rows.len() + 1)),
                }
            }
        }
        while let Some(char) = chars.next_if(|char| *char != separator && *char != '\n') {
            cell.push(char);
        }
        let ended = chars.next();
        if ended != Some(separator) && cell.ends_with('\r') {
            cell.pop();
        }
        row.push(cell);
        let more = ended == Some(separator);
        if more && chars.peek().is_none() {
            row.push(String::new());
        }
        if !more || chars.peek().is_none() {
            rows.push(std::mem::take(&mut row));
        }
    }
    Ok(rows)
}

/// Adds one row to `text`.
pub(super) fn write(text: &mut String, cells: &[String], separator: char) {
    // An empty line would be no row.
    if cells.iter().all(String::is_empty) && cells.len() == 1 {
        text.push_str("\"\"");
    }
    for (index, cell) in cells.iter().enumerate() {
        if 0 < index {
            text.push(separator);
        }
        if cell.contains([separator, '"', '\n', '\r']) {
            text.push_str(&format!("\"{}\"", cell.replace('"', "\"\"")));
        } else {
            text.push_str(cell);
        }
    }
    text.push('\n');
}

fn skip_empty_line(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    let mut ahead = chars.clone();
    let _ = ahead.next_if_eq(&'\r');
    let is_empty = ahead.next_if_eq(&'\n').is_some();
    if is_empty {
        *chars = ahead;
    }
    is_empty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        let cases: [(&str, &[&[&str]]); 8] = [
            ("", &[]),
            ("a,b\nc,d", &[&["a", "b"], &["c", "d"]]),
            ("a,b\r\nc,d\r\n", &[&["a", "b"], &["c", "d"]]),
            ("a,\n,b", &[&["a", ""], &["", "b"]]),
            ("a,", &[&["a", ""]]),
            ("\"a,b\",\"c\"\"d\"\n", &[&["a,b", "c\"d"]]),
            ("\"a\nb\",c", &[&["a\nb", "c"]]),
            ("a\n\nb\r\n\r\n", &[&["a"], &["b"]]),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text, ',').expect(text), expected, "{text:?}");
        }
        assert_eq!(parse("x\n\"open", ','), Err("row 2: a quote is not closed".to_owned()));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let row = ["plain", "with;separator", "with \"quotes\"", "two\nlines", ""].map(str::to_owned);
        let mut text = String::new();
        write(&mut text, &row, ';');
        write(&mut text, &[String::new()], ';');
        assert_eq!(parse(&text, ';').expect("rows"), [&row[..], &[String::new()]]);
    }
}
