//! What expressions come to.

use std::sync::Arc;

use runloom_engine::{Object, StateView, Value, value};

use super::*;

#[track_caller]
fn is(source: &str, expected: Value) {
    let got = eval(source).unwrap_or_else(|e| panic!("{source}: {e}"));
    assert_eq!(got.to_string(), expected.to_string(), "{source}");
}

#[test]
fn literals_and_arithmetic() {
    is("1 + 2 * 3 - 4", value!(3));
    is("7 / 2", value!(3));
    is("-7 / 2", value!(-3));
    is("-7 % 3", value!(-1));
    is("1.5 + 2.5", value!(4.0));
    is("1e3", value!(1000.0));
    is("0xff", value!(255));
    is("-9223372036854775808", value!(i64::MIN));
    is("18446744073709551615u", value!(u64::MAX));
    is("'a' + \"b\" + '''c'''", value!("abc"));
    is(r"r'\n' + '\n\x41\u00e9\U0001F600'", value!("\\n\nAé😀"));
    is("[1] + [2, 3]", value!([1, 2, 3]));
    is("null", Value::Null);
    is("!true || !false", value!(true));
    is("!!true", value!(true));
    is("- -1", value!(1));
    is("1 // a comment with ((( brackets", value!(1));
}

#[test]
fn integers_stay_integers_to_64_bits() {
    let over = state(value!({"big": u64::MAX, "max": i64::MAX, "min": i64::MIN}));
    let get = |source: &str| run(source, &over).map(|(v, _)| v.to_string());
    assert_eq!(get("state.big - 1"), Ok("18446744073709551614".into()));
    assert_eq!(get("state.big == 18446744073709551615u"), Ok("true".into()));
    assert_eq!(get("state.max"), Ok("9223372036854775807".into()));
    assert_eq!(get("state.max + 0"), Ok("9223372036854775807".into()));
    assert_eq!(get("state.big > state.max"), Ok("true".into()));
    assert_eq!(get("9007199254740993 == 9007199254740992.0"), Ok("false".into()), "not compared as floats");
    for overflow in ["state.max + 1", "state.min - 1", "-state.min", "state.max * 2", "state.big + 1", "state.min / -1"]
    {
        let error = get(overflow).unwrap_err();
        assert!(error.contains("64 bits"), "{overflow}: {error}");
    }
}

#[test]
fn comparison_and_equality() {
    for source in [
        "1 == 1.0",
        "1 < 1.5",
        "2.5 > 2",
        "'a' < 'b'",
        "false < true",
        "[1, 2] == [1.0, 2]",
        "{'a': 1} == {'a': 1}",
        "1 != '1'",
        "null == null",
        "[1] != [2]",
        "{'a': 1} != {'b': 1}",
        "2 in [1, 2]",
        "!('x' in [1])",
        "'a' in {'a': null}",
        "'é' > 'e'",
        "type(1) == int",
        "type('') == string",
        "type([]) == list",
        "type({}) == map",
        "type(null) == null_type",
        "type(1.0) == double",
        "1 < 2 && 2 < 3 || false",
    ] {
        is(source, value!(true));
    }
}

#[test]
fn a_map_keeps_the_order_in_which_it_was_written() {
    is("{'z': 1, 'a': 2, 'm': {'y': 1, 'b': 2}}", value!({"z": 1, "a": 2, "m": {"y": 1, "b": 2}}));
    is("{'z': 1, 'a': 2}.map(k, k)", value!(["z", "a"]));
}

#[test]
fn comprehensions() {
    is("[1, 2, 3].map(x, x * x)", value!([1, 4, 9]));
    is("[1, 2, 3].map(x, x > 1, x * 10)", value!([20, 30]));
    is("[1, 2, 3].map(x, x > 1, x)", value!([2, 3]));
    is("[1, 2, 3].filter(x, x % 2 == 1)", value!([1, 3]));
    is("[[1, 2], [3]].map(l, l.map(x, x + size(l)))", value!([[3, 4], [4]]));
    is("[1, 2].map(x, [3].map(x, x))", value!([[3], [3]]));
    is("[1, 2].all(x, x > 0) && [1, 2].exists(x, x == 2) && [1, 2].exists_one(x, x > 1)", value!(true));
    is("[].all(x, false) && ![].exists(x, true) && ![1, 2].exists_one(x, x > 0)", value!(true));
    is("{'a': 1, 'b': 2}.filter(k, k == 'b')", value!(["b"]));
    is("[1].map(state, state)", value!([1]));
}

#[test]
fn one_term_that_decides_is_enough() {
    is("true || 1 / 0 == 1", value!(true));
    is("1 / 0 == 1 || true", value!(true));
    is("1 / 0 == 1 && false", value!(false));
    is("[1, 0].exists(x, 1 / x == 1)", value!(true));
    is("[0, 1].exists(x, 1 / x == 1)", value!(true));
    is("[0, 2].all(x, 1 / x == 1)", value!(false));
    assert!(eval("1 / 0 == 1 || false").unwrap_err().contains("division by zero"));
    assert!(eval("[0, 1].all(x, 1 / x == 1)").unwrap_err().contains("division by zero"));
    assert!(eval("[0, 1].exists_one(x, 1 / x == 1)").is_err());
}

#[test]
fn functions() {
    is("size('héé') + size([1]) + size({'a': 1}) + [1, 2].size()", value!(7));
    is("string(true) + string(1) + string(1.5) + string('x')", value!("true11.5x"));
    is("int('-12') + int(3.9) + int(4)", value!(-5));
    is("double('1.5') + double(1)", value!(2.5));
    is("bool('true') && !bool('0')", value!(true));
    is("'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c')", value!(true));
    is("'abc'.matches('^a.c$') && matches('abc', 'b') && !'abc'.matches(['x', 'z'][0])", value!(true));
    is("' Ab '.trim().lowerAscii() + 'b'.upperAscii()", value!("abB"));
    is("'a,b,c'.split(',')", value!(["a", "b", "c"]));
    is("'a,b,c'.split(',', 2)", value!(["a", "b,c"]));
    is("'hé'.split('')", value!(["h", "é"]));
    is("['a', 'b'].join('-') + ['x'].join()", value!("a-bx"));
    is("'aXbX'.replace('X', 'yy') + 'aXbX'.replace('X', '', 1)", value!("ayybyyabX"));
    is("'héllo'.substring(1, 3) + 'héllo'.substring(3)", value!("éllo"));
    is("'héllo'.indexOf('l') + 'héllo'.lastIndexOf('l') + 'héllo'.indexOf('l', 3) + 'a'.indexOf('b')", value!(7));
    is("'hé'.charAt(1) + 'hé'.charAt(2)", value!("é"));
    is("[3, 1, 2].sort() + [1, 1.0, 2].distinct() + [1, 2].reverse()", value!([1, 2, 3, 1, 2, 2, 1]));
    is("[[1], 2, [3, 4]].flatten()", value!([1, 2, 3, 4]));
    is("[1, 2, 3, 4].slice(1, 3)", value!([2, 3]));
    is("min(3, 1, 2) + max([4, 5])", value!(6));
    is("['b', 'a'].sort()", value!(["a", "b"]));
}

#[test]
fn what_a_place_gives_is_there_by_name() {
    let over = state(value!({"topic": "ice", "nil": null}));
    let context = value!({"user": "ada"});
    let config: Object = [("user_id", value!("7")), ("deep", value!({"a": 1}))].into_iter().collect();
    let (args, result) = (value!({"city": "SF"}), value!({"out": 2}));
    let bound = [(Arc::from("answer"), value!("first")), (Arc::from("answer"), value!("yes"))];
    let env = Env {
        state: &over,
        context: &context,
        config: &config,
        attempt: 3,
        args: Some(&args),
        result: Some(&result),
        bound: &bound,
    };
    let get = |source: &str| compile_with(source, &["answer"]).unwrap().run(&env).map(|(v, _)| v);
    assert_eq!(
        get("[state.topic, context.user, config.user_id, attempt, args.city, result.out, answer]"),
        Ok(value!(["ice", "ada", "7", 3, "SF", 2, "yes"]))
    );
    assert_eq!(
        get("[has(state.nil), has(state.no), has(config.deep), 'topic' in state]"),
        Ok(value!([true, false, false, true]))
    );
    assert_eq!(
        get("[state, context, config, args, result]"),
        Ok(value!([
            {"topic": "ice", "nil": null}, {"user": "ada"}, {"user_id": "7"}, {"city": "SF"}, {"out": 2}
        ]))
    );
    assert_eq!(get("('user' in context ? context.user : 'nobody')"), Ok(value!("ada")));
}

#[test]
fn a_run_without_context_has_an_empty_one() {
    is("'tone' in context ? context.tone : 'plain'", value!("plain"));
    is("has(context.tone)", value!(false));
}

#[test]
fn an_input_of_its_own_stands_for_the_state() {
    let over = StateView::Input(value!({"item": 4}));
    assert_eq!(run("60 - state.item", &over).map(|(v, _)| v), Ok(value!(56)));
    let over = StateView::Input(value!(["not", "an object"]));
    assert_eq!(run("size(state)", &over).map(|(v, _)| v), Ok(value!(2)));
}
