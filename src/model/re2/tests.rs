use super::shape::Shape;
use super::*;

fn matches(pattern: &str, value: &str) -> bool {
    let re = compile_anchored(pattern).unwrap_or_else(|e| panic!("{e}"));
    let found = re.matches(value);
    // The shortcut and the automaton agree.
    let translated = format!("^(?s:{})$", translate::translate(pattern).unwrap());
    assert_eq!(found, regex::Regex::new(&translated).unwrap().is_match(value), "{pattern:?} on {value:?}");
    assert!(!found || value.starts_with(re.prefix()), "{pattern:?} has prefix {:?}", re.prefix());
    found
}

/// Expression, values that match, values that do not; as Go's `regexp` says for `^(?s:expression)$`.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("", &[""], &["a", "\n"]),
    ("a", &["a"], &["", "aa", "a\n", "\na", "A"]),
    ("a|b|c", &["a", "b", "c"], &["", "ab", "a|b"]),
    ("a|", &["a", ""], &["b"]),
    ("foo.*", &["foo", "foo\nbar", "foobar"], &["fo", "xfoo"]),
    ("foo.+", &["foox", "foo\n"], &["foo"]),
    (".+", &["a", "\n", "ä"], &[""]),
    (".*", &["", "a\nb"], &[]),
    (".*foo", &["foo", "x\nfoo"], &["foo\n"]),
    (".*foo.*", &["foo", "xfoox"], &["fo"]),
    (".+foo.*", &["xfoo"], &["foo"]),
    ("a.*b", &["ab", "axb"], &["a", "b", "aba"]),
    ("aba.*aba", &["abaaba", "abaxaba"], &["aba", "ababa"]),
    ("(?-s:a.b)", &["axb"], &["a\nb"]),
    ("(?-s).", &["x"], &["\n"]),
    // Anchors hold at the ends of the whole value only, unless (?m) says otherwise.
    ("^a$", &["a"], &["a\n"]),
    ("^^a$$", &["a"], &["b"]),
    ("^a|b$", &["a", "b"], &["ab", "ax"]),
    ("a$b", &[], &["ab", "a\nb"]),
    ("(?m)a$\n^b", &["a\nb"], &["a\n\nb", "ab"]),
    ("(?m:a$).*", &["a", "a\nb"], &["ab"]),
    ("\\Aa\\z", &["a"], &["a\n"]),
    // Perl classes are ASCII, and \s has no vertical tab.
    ("\\d+", &["019"], &["٣", "a", ""]),
    ("\\D", &["٣", "a"], &["1"]),
    ("\\w+", &["aZ_9"], &["ä", "-"]),
    ("\\W", &["ä", "-"], &["a", "_"]),
    ("\\s", &[" ", "\t", "\n", "\r", "\u{c}"], &["\u{b}", "\u{a0}"]),
    ("\\S", &["\u{b}", "\u{a0}"], &[" "]),
    ("[\\d\\-x]+", &["1-x"], &["٣", "\\"]),
    ("[^\\d]", &["٣", "a"], &["5"]),
    ("[\\D5]", &["5", "a"], &["4"]),
    ("[\\W\\d]", &["ä", "3"], &["a"]),
    (".*\\bfoo\\b.*", &["foo", "a foo b", "äfoo"], &["afoo", "foo_"]),
    (".*\\Boo", &["foo"], &["f oo"]),
    ("(?i)\\w", &["k", "ſ", "\u{212a}"], &["ä"]),
    // Quoting, escapes.
    ("\\Qa.b*\\E+", &["a.b*", "a.b**"], &["aab", "a.b"]),
    ("\\Q[x", &["[x"], &["x"]),
    ("\\Q\\E", &[""], &["Q"]),
    ("\\Qa\\\\E", &["a\\"], &["a"]),
    ("\\<a\\>", &["<a>"], &["a"]),
    ("\\_\\-\\/\\ \\&\\~", &["_-/ &~"], &["_"]),
    ("\\x41\\x{1F600}\\x{0000041}", &["A😀A"], &["A"]),
    ("\\a\\f\\n\\r\\t\\v", &["\u{7}\u{c}\n\r\t\u{b}"], &["afnrtv"]),
    ("\\0\\101\\07\\018", &["\0A\u{7}\u{1}8"], &["A"]),
    ("\\pL\\p{Greek}\\PL\\p{^L}", &["aα12"], &["1α12"]),
    ("[\\p{Lu}\\P{L}]+", &["A1"], &["a"]),
    // Brackets.
    ("[[]", &["["], &["]"]),
    ("[]a]+", &["]a"], &["b"]),
    ("[^]a]", &["b"], &["]", "a"]),
    ("[a&&b]+", &["a&b"], &["c"]),
    ("[*--b]+", &["*+,-b"], &["."]),
    ("[a~~b]+", &["a~b"], &["c"]),
    ("[+--]+", &["+,-"], &["."]),
    ("[a-]+", &["a-"], &["b"]),
    ("[-a]+", &["a-"], &["b"]),
    ("[a-c-e]+", &["b-e"], &["d"]),
    ("[\\d-z]+", &["1-z"], &["a"]),
    ("[[:alpha:]_]+", &["aB_"], &["ä", "1", ":"]),
    ("[[:^alpha:]]", &["1", "ä"], &["a"]),
    ("[[:a]+", &["[:a"], &["b"]),
    ("[[a]b]", &["[b]", "ab]"], &["a", "b"]),
    ("[#-&]+", &["#$%&"], &["'"]),
    ("[ä-ü]", &["ö"], &["a"]),
    ("(?i)[k]", &["K", "\u{212a}"], &["x"]),
    // Braces.
    ("a{2}", &["aa"], &["a", "aaa", "a{2}"]),
    ("a{2,}", &["aa", "aaa"], &["a"]),
    ("a{1,2}", &["a", "aa"], &["", "aaa"]),
    ("a{0}", &[""], &["a"]),
    ("a{,2}", &["a{,2}"], &["a", "aa"]),
    ("a{", &["a{"], &["a"]),
    ("{}", &["{}"], &[""]),
    ("a{x}b{1,x}{01}", &["a{x}b{1,x}{01}"], &["ab"]),
    ("a{1}?b*?c??", &["a", "abc"], &["aa"]),
    // Groups and flags.
    ("(?P<n1>a)(?<n2>b)(?:c)(d)", &["abcd"], &["abc"]),
    ("(?P<1>a)", &["a"], &["b"]),
    ("(?i)Foo|bar", &["fOO", "BAR"], &["x"]),
    ("a(?i)b|c", &["aB", "ab", "C"], &["AB"]),
    ("(?i:a)b", &["Ab"], &["aB"]),
    ("(?i-i)a", &["a"], &["A"]),
    ("(?ii)a", &["A"], &["b"]),
    ("(?)a(?:)", &["a"], &["b"]),
    ("(?U)a*", &["aaa", ""], &["b"]),
    ("(?smU-i:a.)", &["a\n"], &["A\n"]),
    ("(a|b)*c|(a|ab)*c", &["abc", "c"], &["ab"]),
    ("^*a", &["a"], &["b"]),
    ("a#b c", &["a#b c"], &["a"]),
    ("(a{31}){32}|x", &["x"], &["a"]),
    ("ä.?", &["ä", "äß"], &["a"]),
];

#[test]
fn expressions_match_as_in_re2() {
    for (pattern, yes, no) in TABLE {
        for value in *yes {
            assert!(matches(pattern, value), "{pattern:?} should match {value:?}");
        }
        for value in *no {
            assert!(!matches(pattern, value), "{pattern:?} should not match {value:?}");
        }
    }
}

const REFUSED: &[&str] = &[
    "(",
    ")",
    "a)|(b",
    "a)(b",
    "[",
    "[a",
    "[]",
    "[^]",
    "\\",
    "a\\",
    "*",
    "+a",
    "?",
    "|*",
    "(*)",
    "a**",
    "a*+",
    "a+*",
    "a??*",
    "a???",
    "a{2}{3}",
    "a{2}*",
    "{2}",
    "a{1001}",
    "a{2,1}",
    "a{1,1001}",
    "a{99999999999}",
    "(a{100}){100}",
    "((a{10}){10}){11}",
    "(?=a)",
    "(?!a)",
    "(?<=a)",
    "(?<!a)",
    "(?x)a b",
    "(?R)a",
    "(?i",
    "(?i-)a",
    "(?--i)a",
    "(?-)a",
    "(?P=n)",
    "(?P>n)",
    "(?P<n",
    "(?P<>a)",
    "(?P<n m>a)",
    "(?P<n>a)(?P<n>b)",
    "(?a)",
    "\\1",
    "\\8",
    "\\C",
    "\\Z",
    "\\E",
    "\\G",
    "\\K",
    "\\X",
    "\\R",
    "\\h",
    "\\q",
    "\\ä",
    "\\u0041",
    "\\x",
    "\\x4",
    "\\xg0",
    "\\x{}",
    "\\x{110000}",
    "\\x{g}",
    "\\x{41",
    "\\p",
    "\\p{",
    "\\p{Nope}",
    "\\p{sc=Greek}",
    "[[:nope:]]",
    "[z-a]",
    "[a--b]",
    "[a-\\d]",
    "[\\b]",
    "[\\Qa\\E]",
    "[\\1]",
];

#[test]
fn what_re2_refuses_is_refused() {
    let long = "a".repeat(300 << 10);
    let classes = "\\pL".repeat(100);
    for pattern in REFUSED.iter().copied().chain([long.as_str(), classes.as_str()]) {
        let error = compile_anchored(pattern).expect_err(&pattern[..pattern.len().min(80)]);
        assert_eq!(error.pattern, pattern);
        assert!(!error.reason.is_empty());
    }
}

#[test]
fn what_would_compile_too_large_is_refused() {
    assert!(compile_anchored("(\\pL{100}\\PL{100}){10}x").is_err());
    assert!(compile_anchored(&"(".repeat(100_000)).is_err());
    assert!(compile_anchored(&format!("{}a{}", "(".repeat(5_000), ")".repeat(5_000))).is_err());
}

#[test]
fn hostile_expressions_take_linear_time() {
    for pattern in ["{", "[[:", "(?P<a>", "\\Q", "a|", "[a", "\\x{"] {
        let _ = compile_anchored(&pattern.repeat((250 << 10) / pattern.len()));
    }
}

fn values(pattern: &str) -> Option<Vec<String>> {
    compile_anchored(pattern).unwrap().values().map(<[String]>::to_vec)
}

#[test]
fn alternations_of_strings_are_sets() {
    let some = |list: &[&str]| Some(list.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
    assert_eq!(values("c|a|b|a"), some(&["a", "b", "c"]));
    assert_eq!(values("host-(1|22)\\.example"), some(&["host-1.example", "host-22.example"]));
    assert_eq!(values("^(?:foo|bar)$"), some(&["bar", "foo"]));
    assert_eq!(values("fo?[xy]"), some(&["fox", "foy", "fx", "fy"]));
    assert_eq!(values("(?i)ab"), some(&["AB", "Ab", "aB", "ab"]));
    assert_eq!(values(""), some(&[""]));
    assert_eq!(values("a|"), some(&["", "a"]));
    for pattern in ["a.*", "a.", "a+", "^a|b", "\\ba", "(?m)^a$", "[a-z]{4}", "(a|b)(c|d)*"] {
        assert_eq!(values(pattern), None, "{pattern}");
    }
    let pods: Vec<String> = (0..3_000).map(|i| format!("pod-{i:04}")).collect();
    assert_eq!(values(&pods.join("|")), Some(pods));
    // A cross product that would not fit.
    assert_eq!(values(&format!("{}[a-z][a-z]", "x".repeat(100_000))), None);
}

#[test]
fn literals_around_dots_need_no_automaton() {
    let shape = |pattern: &str| compile_anchored(pattern).unwrap().shape;
    assert!(matches!(shape("node_.*"), Shape::Around { between_min: 0, .. }));
    assert!(matches!(shape("a.+z"), Shape::Around { between_min: 1, .. }));
    assert!(matches!(shape(".*"), Shape::Around { .. }));
    assert!(matches!(shape(".*?error.*"), Shape::Contains(_)));
    assert!(matches!(shape("(?-s)a.*"), Shape::Other(_)));
    assert!(matches!(shape("a.*b.*c"), Shape::Other(_)));
}

#[test]
fn a_prefix_is_known_where_every_match_has_it() {
    let prefix = |pattern: &str| compile_anchored(pattern).unwrap().prefix;
    assert_eq!(prefix("node_.*"), "node_");
    assert_eq!(prefix("^node_(cpu|mem).*"), "node_");
    assert_eq!(prefix("node_cpu|node_mem"), "node_");
    assert_eq!(prefix("aä|aö"), "a");
    assert_eq!(prefix("a|b"), "");
    assert_eq!(prefix("a*b"), "");
    assert_eq!(prefix("(?i)node.*"), "");
}
