//! Bracket classes, escapes of single characters, and the named classes of RE2.

use super::translate::Scanner;

/// The POSIX classes; RE2 and the `regex` crate agree on them.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// Each `\p` class has hundreds of ranges once parsed.
const UNICODE_CLASSES_MAX: usize = 64;

/// Returns `\d`, `\s`, `\w` and their negations, which are ASCII in RE2 and have no vertical tab.
pub(super) fn perl_class(letter: char) -> Option<&'static str> {
    Some(match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => r"[\t\n\f\r ]",
        'S' => r"[^\t\n\f\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

impl Scanner<'_> {
    /// Translates what follows `[`.
    pub(super) fn bracket(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if !first && self.eat("]") {
                self.out.push(']');
                return Ok(());
            }
            // A bracket that closes at once is a literal.
            first = false;
            if !(self.posix_class()? || self.escaped_class()?) {
                self.range()?;
            }
        }
    }

    /// Takes `[:name:]` or `[:^name:]`. Without its end `[` is a literal.
    fn posix_class(&mut self) -> Result<bool, String> {
        let Some(inner) = self.rest.strip_prefix("[:") else { return Ok(false) };
        // No name is longer; a wider search would take quadratic time.
        let near = &inner.as_bytes()[..inner.len().min(16)];
        let Some(end) = near.windows(2).position(|w| w == b":]") else { return Ok(false) };
        let name = &inner[..end];
        if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("[:{name}:] is not a class"));
        }
        self.out.push_str(&self.rest[..end + 4]);
        self.rest = &self.rest[end + 4..];
        Ok(true)
    }

    /// Takes a Perl or Unicode class.
    fn escaped_class(&mut self) -> Result<bool, String> {
        let mut ahead = self.rest.chars();
        let (Some('\\'), Some(letter)) = (ahead.next(), ahead.next()) else { return Ok(false) };
        if let Some(class) = perl_class(letter) {
            self.rest = ahead.as_str();
            self.out.push_str(class);
            return Ok(true);
        }
        if matches!(letter, 'p' | 'P') {
            self.rest = ahead.as_str();
            self.unicode_class(letter == 'P')?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes one character, or two with `-` between; a `-` before the end is a literal.
    fn range(&mut self) -> Result<(), String> {
        let low = self.class_char()?;
        self.put_code(low);
        let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
        if is_range && self.eat("-") {
            let high = self.class_char()?;
            if high < low {
                return Err(format!("the range {low:?}-{high:?} is backwards"));
            }
            self.out.push('-');
            self.put_code(high);
        }
        Ok(())
    }

    fn class_char(&mut self) -> Result<char, String> {
        match self.next_char() {
            None => Err("a [ has no closing ]".to_owned()),
            Some('\\') => self.escaped_char(),
            Some(other) => Ok(other),
        }
    }

    fn put_code(&mut self, c: char) {
        self.out.push_str(&format!("\\x{{{:X}}}", u32::from(c)));
    }

    /// Takes what follows `\p` or `\P`: one letter, or a name in braces, which `^` negates.
    pub(super) fn unicode_class(&mut self, mut negated: bool) -> Result<(), String> {
        self.unicode_classes += 1;
        if self.unicode_classes > UNICODE_CLASSES_MAX {
            return Err(format!("it has more than {UNICODE_CLASSES_MAX} Unicode classes"));
        }
        let rest = self.rest;
        let name = if let Some(inner) = rest.strip_prefix('{') {
            let end = inner.find('}').ok_or("a \\p{ has no closing }")?;
            self.rest = &inner[end + 1..];
            &inner[..end]
        } else {
            let letter = self.next_char().ok_or("it ends within a \\p")?;
            &rest[..letter.len_utf8()]
        };
        let plain = name.strip_prefix('^').inspect(|_| negated = !negated).unwrap_or(name);
        if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!("\\p{{{name}}} is not a Unicode class"));
        }
        let letter = if negated { 'P' } else { 'p' };
        self.out.push_str(&format!("\\{letter}{{{plain}}}"));
        Ok(())
    }

    /// Takes what follows a backslash that stands for one character.
    pub(super) fn escaped_char(&mut self) -> Result<char, String> {
        let letter = self.next_char().ok_or("it ends in a backslash")?;
        let code = match letter {
            'a' => 7,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            'x' => self.hexadecimal()?,
            '0' => self.octal(0),
            // One digit alone would be a back-reference.
            '1'..='7' if self.rest.starts_with(|c| matches!(c, '0'..='7')) => {
                self.octal(u32::from(letter) - u32::from('0'))
            }
            _ if letter.is_ascii() && !letter.is_ascii_alphanumeric() => u32::from(letter),
            _ => return Err(format!("\\{letter} is not an escape")),
        };
        char::from_u32(code).ok_or_else(|| format!("{code:#x} is not a character"))
    }

    /// Takes up to two more octal digits.
    fn octal(&mut self, mut code: u32) -> u32 {
        for _ in 0..2 {
            let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else { break };
            code = code * 8 + digit;
            self.rest = &self.rest[1..];
        }
        code
    }

    /// Takes two hexadecimal digits, or any number of them in braces.
    fn hexadecimal(&mut self) -> Result<u32, String> {
        let digits = if let Some(inner) = self.rest.strip_prefix('{') {
            let end = inner.find('}').ok_or("a \\x{ has no closing }")?;
            self.rest = &inner[end + 1..];
            &inner[..end]
        } else {
            let (digits, rest) = self.rest.split_at_checked(2).ok_or("a \\x needs two digits")?;
            self.rest = rest;
            digits
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("\\x{{{digits}}} is not hexadecimal"));
        }
        u32::from_str_radix(digits, 16).map_err(|_| format!("\\x{{{digits}}} is not a character"))
    }
}
