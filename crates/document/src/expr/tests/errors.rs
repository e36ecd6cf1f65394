//! What is refused when an expression is compiled, and what it fails with when it runs.

use super::*;

#[track_caller]
fn refused(source: &str, line: usize, column: usize, says: &str) {
    let fault = compile_with(source, &["answer"]).expect_err(source);
    assert_eq!((fault.line, fault.column), (line, column), "{source}: {}", fault.message);
    assert!(fault.message.contains(says), "{source}: {:?} does not say {says:?}", fault.message);
}

#[test]
fn a_syntax_error_names_its_place() {
    refused("1 +", 1, 4, "the end of the expression");
    refused("a.b.c(", 1, 7, "syntax error");
    refused("1 +\n  * 2", 2, 3, "`*`".trim_matches('`'));
    refused("", 1, 1, "empty");
    refused("   ", 1, 1, "empty");
    refused("'é' + state.x y", 1, 15, "'y'");
    refused("a ? b", 1, 6, "the end of the expression");
    refused("99999999999999999999", 1, 1, "invalid int");
    refused("1e999", 1, 1, "double");
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest() {
    refused("stat.topic", 1, 1, "did you mean `state`?");
    refused("1 + answr", 1, 5, "did you mean `answer`?");
    refused("'é' + contxt.user", 1, 7, "did you mean `context`?");
    refused("[1].map(item, itm)", 1, 15, "did you mean `item`?");
    refused("[1].map(item, item) + item", 1, 23, "no name `item`");
    refused("nothing_like_it", 1, 1, "there are state, context");
}

#[test]
fn an_unknown_function_is_refused_with_the_nearest() {
    refused("sze(state.x)", 1, 4, "did you mean `size`?");
    refused("state.x.startswith('a')", 1, 19, "did you mean `startsWith`?");
    refused("contains(state.x)", 1, 9, "a method");
    refused("state.x.string()", 1, 15, "a function");
    refused("size(1, 2)", 1, 5, "takes 1 argument");
    refused("state.x.map(1)", 1, 12, "list.map(item, expression)");
    refused("timestamp('2020-01-01T00:00:00Z')", 1, 10, "no function `timestamp`");
    refused("state.x.matches('(')", 1, 16, "is not a pattern");
}

#[test]
fn what_json_does_not_have_is_refused() {
    refused("b'abc'", 1, 1, "bytes");
    refused("{1: 2}", 1, 2, "texts");
    refused("Thing{a: 1}", 1, 6, "only maps");
    refused("state.?x", 1, 6, "syntax");
}

#[track_caller]
fn fails(source: &str, says: &str) {
    let error = eval(source).expect_err(source);
    assert!(error.contains(says), "{source}: {error:?} does not say {says:?}");
}

#[test]
fn a_failure_says_what_and_why() {
    fails("1 + 1.0", "double(…) or int(…)");
    fails("1.0 * 2", "double(…) or int(…)");
    fails("'a' + 1", "`+` does not take a string and an integer");
    fails("5.0 % 2.0", "`%`");
    fails("1 < 'a'", "`<` does not compare an integer with a string");
    fails("1 / 0", "division by zero");
    fails("1.0 / 0.0", "division by zero");
    fails("1e308 * 10.0", "too large");
    fails("state.topic", "has(state.topic)");
    fails("{'a': 1}.b", "has(x.b)");
    fails("{'a': 1}['b']", "no `b`");
    fails("[1][1]", "no item 1 in a list of 1");
    fails("[1][-1]", "no item -1");
    fails("[1]['a']", "a list has no item by a string");
    fails("null.a", "from null");
    fails("1 ? 2 : 3", "true or false, not an integer");
    fails("1 && true", "true or false");
    fails("[1].filter(x, x)", "true or false");
    fails("{'a': 1, 'a': 2}", "same key twice");
    fails("{['a'][0]: 1, string(1): 2}[1]", "no item by");
    fails("int('x')", "no integer");
    fails("int('1.5')", "no integer");
    fails("int(1e300)", "64 bits");
    fails("uint(-1)", "uint");
    fails("double('NaN')", "no number");
    fails("string([1])", "`string` does not take a list");
    fails("size(1)", "`size` does not take an integer");
    fails("1 in 'abc'", "not into a string");
    fails("null in {'a': 1}", "keys");
    fails("min([])", "empty list");
    fails("[1, 'a'].sort()", "compare");
    fails("'abc'.substring(2, 1)", "from 2 back to 1");
    fails("'abc'.charAt(9)", "no position 9");
    fails("[1].join()", "joins texts");
    fails("'a'.matches(1 < 2 ? '(' : '')", "not a pattern");
    fails("has(state.a.b)", "has(state.a)");
}

#[test]
fn a_node_fails_with_the_expression_in_its_error() {
    let over = state(runloom_engine::value!({}));
    let (context, config) = (Value::Null, Object::default());
    let env =
        Env { state: &over, context: &context, config: &config, attempt: 1, args: None, result: None, bound: &[] };
    let error = compile("1 + state.topic").eval(&env).unwrap_err();
    let runloom_engine::NodeError::Failed(failure) = error else { panic!("{error:?}") };
    assert_eq!(&*failure.kind, "ExpressionError");
    assert!(
        failure.message.starts_with("the expression `1 + state.topic` fails: `state` holds no `topic`"),
        "{failure}"
    );
}
