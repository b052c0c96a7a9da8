//! Rust source with comments and the contents of literals blanked out, so that rules see code only.

/// Returns the source with comments and literal contents replaced by blanks, of the same length in bytes and with the
/// same line breaks.
pub(super) fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = vec![b' '; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_or_comment_end(bytes, at);
        if end > at {
            keep_quotes(bytes, &mut out, at, end);
            at = end;
        } else {
            out[at] = bytes[at];
            at += 1;
        }
    }
    for (to, from) in out.iter_mut().zip(bytes) {
        if *from == b'\n' {
            *to = b'\n';
        }
    }
    out.retain(u8::is_ascii);
    // Bytes beyond ASCII outside of literals and comments do not occur in our code; keep the length all the same.
    out.resize(bytes.len(), b' ');
    String::from_utf8(out).expect("only ASCII was kept")
}

fn keep_quotes(bytes: &[u8], out: &mut [u8], start: usize, end: usize) {
    if bytes[start] != b'/' {
        out[start] = b'"';
        out[end - 1] = b'"';
    }
}

/// Returns where the literal or comment that begins here ends, or `at` where none does.
fn literal_or_comment_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let boundary = at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at + block_comment_len(rest);
    }
    if boundary && let Some(len) = raw_string_len(rest) {
        return at + len;
    }
    match rest[0] {
        b'"' => at + quoted_len(rest, b'"'),
        b'b' if boundary && rest.get(1) == Some(&b'"') => at + 1 + quoted_len(&rest[1..], b'"'),
        b'\'' if is_char_literal(rest) => at + quoted_len(rest, b'\''),
        _ => at,
    }
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn raw_string_len(rest: &[u8]) -> Option<usize> {
    let prefix = if rest.starts_with(b"br") { 2 } else { usize::from(rest.starts_with(b"r")) };
    let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
    if prefix == 0 || rest.get(prefix + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    let open = prefix + hashes + 1;
    let end = rest[open..].windows(close.len()).position(|w| w == close)?;
    Some(open + end + close.len())
}

fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Tells a character literal from a lifetime.
fn is_char_literal(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(b) if b.is_ascii() => rest.get(2) == Some(&b'\''),
        Some(_) => true,
        None => false,
    }
}

/// Returns where the bracket that opens at `open` is closed.
pub(super) fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'{' | b'[' => depth += 1,
            b')' | b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns the number of the line (from 1) that holds a byte.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
}

#[test]
fn comments_and_literals_are_blanked_and_lifetimes_stay() {
    let source = "let a = \"x // y\"; // z\nfn f<'a>(c: char) -> &'a str { '\\'' ; r#\"q\" { \"# }";
    let code = code_only(source);
    assert_eq!(code.len(), source.len());
    assert!(!code.contains('x') && !code.contains('z') && !code.contains('q'), "{code}");
    assert!(code.contains("fn f<'a>(c: char) -> &'a str {"), "{code}");
    assert_eq!(code.matches('{').count(), 1, "{code}");
}
