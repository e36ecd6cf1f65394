//! Expressions that would bring a process down.

use proptest::prelude::*;
use runloom_engine::value;

use super::*;

/// Compiles, and evaluates where that works, on the stack that a task of a runtime has. Panics and overflows fail the
/// test; errors are fine.
fn survive(source: &str) -> Result<Value, String> {
    let source = source.to_owned();
    let work = move || {
        let expr = compile_with(&source, &[]).map_err(|f| f.message)?;
        let over = state(value!({"a": {"b": 1}, "list": [1, 2, 3], "text": "abc"}));
        let (context, config) = (Value::Null, Object::default());
        let env =
            Env { state: &over, context: &context, config: &config, attempt: 1, args: None, result: None, bound: &[] };
        expr.run(&env).map(|(value, _)| value)
    };
    std::thread::Builder::new().stack_size(512 << 10).spawn(work).unwrap().join().expect("no panic")
}

#[test]
fn depth_is_refused_and_never_overflows() {
    for (open, close) in
        [("(", ")"), ("[", "]"), ("{'a': ", "}"), ("size(", ")"), ("[1].map(x, ", ")"), ("state[", "]")]
    {
        let nested = |n: usize| open.repeat(n) + "1" + &close.repeat(n);
        assert!(survive(&nested(10_000)).unwrap_err().contains("the most"), "too long before it is too deep");
        for n in [MAX_NESTING + 1, 500, 1000] {
            assert!(survive(&nested(n)).unwrap_err().contains("deep"), "{open} {n}");
        }
        let _ = survive(&nested(MAX_NESTING / 2));
        let _ = survive(&nested(MAX_NESTING));
        assert!(survive(&open.repeat(1000)).is_err());
    }
}

#[test]
fn depth_below_the_limit_is_evaluated() {
    let n = MAX_NESTING;
    assert_eq!(survive(&("(".repeat(n) + "1" + &")".repeat(n))), Ok(value!(1)));
    assert_eq!(survive(&("-(".repeat(n) + "1" + &")".repeat(n))), Ok(value!(1)));
    assert_eq!(survive(&("[1].map(x, ".repeat(n) + "x" + &")".repeat(n))).unwrap().depth(), n);
    assert_eq!(survive(&("true ? [".repeat(n) + "1" + &"] : 0".repeat(n))).unwrap().depth(), n);
}

#[test]
fn long_chains_are_evaluated_flat() {
    for n in [10, 2000] {
        assert_eq!(survive(&("1 + ".repeat(n) + "1")), Ok(value!(n + 1)));
        assert_eq!(survive(&("true && ".repeat(n) + "true")), Ok(value!(true)));
        assert_eq!(survive(&("!".repeat(n) + "true")), Ok(value!(true)));
        assert_eq!(survive(&("-".repeat(n) + "1")), Ok(value!(1)));
        assert_eq!(survive(&("[".to_owned() + &"1,".repeat(n) + "1]")).unwrap().as_list().unwrap().len(), n + 1);
        assert_eq!(survive(&("'".to_owned() + &"(".repeat(n) + "'")).unwrap().as_str().unwrap().len(), n);
        assert_eq!(survive(&("[1]".to_owned() + &".map(x,x)".repeat(n / 2))), Ok(value!([1])));
        assert!(survive(&("state".to_owned() + &".a".repeat(n))).is_err());
        assert!(survive(&("state.list".to_owned() + &"[0]".repeat(n))).is_err());
    }
    assert_eq!(survive(&("false ? 1 : ".repeat(80) + "2")), Ok(value!(2)));
    assert!(survive(&("false ? 1 : ".repeat(1000) + "2")).unwrap_err().contains("deep"));
}

#[test]
fn an_endless_evaluation_stops_at_its_budget() {
    let list = format!("[{}]", vec!["1"; 50].join(","));
    let mut nested = "1".to_owned();
    for i in 0..8 {
        nested = format!("{list}.map(x{i}, {nested})");
    }
    let error = survive(&nested).unwrap_err();
    assert!(error.contains("too many steps"), "{error}");
    for swallow in [format!("true && ({nested}) == 1 || true"), format!("[1].exists(y, ({nested}) == y)")] {
        assert!(survive(&swallow).unwrap_err().contains("too many steps"), "nothing swallows it");
    }
    let exists = format!("{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, a + b + c + d > 0))))");
    assert!(survive(&exists).unwrap_err().contains("too many steps"));
}

#[test]
fn texts_that_double_stop_at_the_budget() {
    let doubled = "['aaaaaaaaaaaaaaaa']".to_owned() + &".map(x, x + x)".repeat(60) + "[0]";
    assert!(survive(&doubled).unwrap_err().contains("too many steps"));
    let replaced = "['aaaaaaaaaaaaaaaa']".to_owned() + &".map(x, x.replace('', x))".repeat(10) + "[0]";
    assert!(survive(&replaced).unwrap_err().contains("too many steps"));
    let joined = "['aaaaaaaaaaaaaaaa']".to_owned() + &".map(x, [x, x, x, x, x, x].join(x))".repeat(20) + "[0]";
    assert!(survive(&joined).unwrap_err().contains("too many steps"));
}

#[test]
fn lists_that_double_are_too_large_or_too_deep_to_be_written() {
    // Small in memory, since the parts are shared, and endless once written out.
    let doubled = "[1]".to_owned() + &".map(x, [x, x])".repeat(60);
    assert!(survive(&doubled).unwrap_err().contains("too large"));
    let deep = "[1]".to_owned() + &".map(x, [x])".repeat(500);
    assert!(survive(&deep).unwrap_err().contains("deeper"));
    let long = "[1]".to_owned() + &".map(x, 1) + [1]".repeat(3);
    assert!(survive(&long).is_ok());
    let compared = format!("({doubled}) == ({doubled})");
    assert!(survive(&compared).unwrap_err().contains("too many steps"));
}

#[test]
fn patterns_cannot_run_away() {
    let text = "a".repeat(5000);
    assert_eq!(survive(&format!("'{text}'.matches('(a+)+$') && !'{text}!'.matches('^(a+)+$')")), Ok(value!(true)));
    assert!(survive("'a'.matches('((a{1,100}){1,100}){1,100}')").unwrap_err().contains("too large"));
    assert!(survive(&format!("'a'.matches('{}')", "a".repeat(2000))).unwrap_err().contains("1024"));
}

#[test]
fn odd_texts_are_refused_or_read_but_never_panic() {
    for source in [
        "\u{0}",
        "'",
        "'''",
        "\"",
        "r'",
        "b'",
        "'\\",
        "'\\u12'",
        "'\\ud800'",
        "'\\U00110000'",
        "0x",
        "0xg",
        "1u2",
        "1e",
        ".5",
        "5.",
        "..",
        "a..b",
        "😀",
        "'é' 😀",
        "`a`",
        "a.`b`",
        "{",
        "}",
        ")",
        "[1,",
        "{'a'",
        "{'a':}",
        "[?1]",
        "{?'a': 1}",
        "a[?1]",
        "has()",
        "has(1)",
        "has(state)",
        "[].map()",
        "[].map(x)",
        "[].map(1, 2)",
        "[].map(x.y, 2)",
        "state.list.map(x, y, z, w)",
        "__result__",
        "@result",
        "@not_strictly_false(true)",
        "_+_(1, 2)",
        "true(1)",
        "-9223372036854775809",
        "1.7976931348623157e309",
        "'\u{202e}'",
        "/* */ 1",
        "1 /",
        "in",
        "as",
        "1 in",
        "in 1",
        "[].exists(x, x, x)",
        "state.a.b.c.d",
        "optional.of(1)",
        "type(type(1))",
        "dyn(dyn(1))",
        "\t1\n",
        "1;2",
        "#",
        "$a",
        "-'a'",
        "!1",
        "[1, 2, 3",
        "'a' 'b'",
        "1 2",
        "size",
        "int",
        "string(int)",
        "{'a': int}",
        "(1).foo",
        "1.foo()",
    ] {
        let _ = survive(source);
    }
}

/// Pieces of which hostile expressions are put together.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "?",
        "+",
        "-",
        "*",
        "/",
        "%",
        "!",
        "&&",
        "||",
        "==",
        "<",
        "in",
        ".",
        "1",
        "2.5",
        "0",
        "'a'",
        "\"",
        "'",
        "r'",
        "state",
        "state.list",
        "state.a",
        "x",
        "size",
        "map(x, ",
        "filter(x, ",
        "has(",
        "null",
        "true",
        "9223372036854775807",
        "18446744073709551615u",
        "\\",
        "\n",
        "//",
        "é",
        "b'",
        "exists(x, ",
        "'k': ",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _ = survive(&text);
    }

    #[test]
    fn no_heap_of_pieces_panics(pieces in prop::collection::vec(piece(), 0..60)) {
        let _ = survive(&pieces.join(" "));
        let _ = survive(&pieces.concat());
    }
}
