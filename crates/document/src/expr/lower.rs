//! From the parser's tree to a [`Node`]: names resolved, functions known, chains laid flat.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use regex::Regex;
use runloom_engine::Value;

use super::{
    Names,
    functions::{self, Function},
    node::{Each, EachKind, Link, Node, Op},
    parse::Fault,
};

/// How deep nodes may nest. A bracket of a call or a comprehension counts once, so this is above what the parser takes.
const MAX_DEPTH: usize = 100;

pub(super) struct Lower<'a> {
    pub names: &'a Names<'a>,
    pub source: &'a str,
    pub info: &'a SourceInfo,
    /// The variables of the comprehensions around, innermost last.
    pub locals: Vec<String>,
    pub depth: usize,
}

type Result<T> = std::result::Result<T, Fault>;

impl Lower<'_> {
    fn fault(&self, at: &IdedExpr, message: impl Into<String>) -> Fault {
        let offset = self.info.offset_for(at.id).map_or(0, |(start, _)| start as usize);
        Fault::at(self.source, offset, message)
    }

    pub fn node(&mut self, expr: &IdedExpr) -> Result<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fault(expr, "it nests too deep; name parts of it with steps of their own"));
        }
        let node = self.chain(expr);
        self.depth -= 1;
        node
    }

    fn nodes(&mut self, exprs: &[IdedExpr]) -> Result<Box<[Node]>> {
        exprs.iter().map(|e| self.node(e)).collect()
    }

    /// A first value and what follows it on the right, walked without recursion.
    fn chain(&mut self, expr: &IdedExpr) -> Result<Node> {
        let mut links = Vec::new();
        let mut at = expr;
        loop {
            match &at.expr {
                Expr::Call(call) => match (op(&call.func_name), &call.target, &call.args[..]) {
                    (Some(op), None, [left, right]) => {
                        links.push(Link::Op(op, self.node(right)?));
                        at = left;
                    }
                    (None, None, [left, right]) if call.func_name == operators::INDEX => {
                        links.push(Link::Index(self.node(right)?));
                        at = left;
                    }
                    (None, Some(target), args) => {
                        links.push(self.method(at, &call.func_name, args)?);
                        at = target;
                    }
                    _ => break,
                },
                Expr::Select(select) if !select.test => {
                    links.push(Link::Field(select.field.as_str().into()));
                    at = &select.operand;
                }
                Expr::Comprehension(c) => {
                    links.push(Link::Each(self.each(at, c)?));
                    at = &c.iter_range;
                }
                _ => break,
            }
        }
        links.reverse();
        let mut first = self.first(at)?;
        if let (Node::Root(root), Some(Link::Field(_))) = (&first, links.first()) {
            let root = *root;
            if let Link::Field(field) = links.remove(0) {
                first = Node::RootField(root, field);
            }
        }
        Ok(if links.is_empty() { first } else { Node::Chain(Box::new(first), links.into()) })
    }

    fn first(&mut self, at: &IdedExpr) -> Result<Node> {
        Ok(match &at.expr {
            Expr::Literal(literal) => Node::Literal(self.literal(at, literal)?),
            Expr::Ident(name) => self.name(at, name)?,
            Expr::List(list) => Node::List(self.nodes(&list.elements)?),
            Expr::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in &map.entries {
                    let EntryExpr::MapEntry(e) = &entry.expr else {
                        return Err(self.fault(at, "there are no messages here, only maps: `{\"key\": value}`"));
                    };
                    if let Expr::Literal(key) = &e.key.expr
                        && !matches!(key, LiteralValue::String(_))
                    {
                        return Err(self.fault(&e.key, "the keys of a map are texts, as in JSON"));
                    }
                    entries.push((self.node(&e.key)?, self.node(&e.value)?));
                }
                Node::Map(entries.into())
            }
            Expr::Select(select) => match self.node(&select.operand)? {
                Node::Root(root) => Node::RootHas(root, select.field.as_str().into()),
                operand => Node::Has(Box::new(operand), select.field.as_str().into()),
            },
            Expr::Call(call) => self.call(at, call)?,
            Expr::Struct(s) => {
                return Err(self.fault(at, format!("there are no messages of type `{}` here, only maps", s.type_name)));
            }
            Expr::Comprehension(_) | Expr::Unspecified => return Err(self.fault(at, "syntax error")),
        })
    }

    fn literal(&self, at: &IdedExpr, literal: &LiteralValue) -> Result<Value> {
        Ok(match literal {
            LiteralValue::Null => Value::Null,
            LiteralValue::Boolean(b) => Value::Bool(*b.inner()),
            LiteralValue::Int(i) => Value::Int(*i.inner()),
            LiteralValue::UInt(u) => Value::from(*u.inner()),
            LiteralValue::Double(d) if d.inner().is_finite() => Value::Float(*d.inner()),
            LiteralValue::Double(_) => return Err(self.fault(at, "the number is too large")),
            LiteralValue::String(s) => Value::string(s.inner()),
            LiteralValue::Bytes(_) => return Err(self.fault(at, "there are no bytes in JSON; use a text")),
        })
    }

    fn name(&self, at: &IdedExpr, name: &str) -> Result<Node> {
        if let Some(depth) = self.locals.iter().rposition(|l| l == name) {
            return Ok(Node::Local(depth));
        }
        if let Some(bound) = self.names.bound.iter().rev().find(|b| &***b == name) {
            return Ok(Node::Bound(bound.clone()));
        }
        if let Some(root) = self.names.roots.iter().find(|r| r.name() == name) {
            return Ok(Node::Root(*root));
        }
        if let Some(kind) = functions::type_name(name) {
            return Ok(Node::Literal(Value::string(kind)));
        }
        Err(self.fault(at, self.names.unknown(name, &self.locals)))
    }

    fn call(&mut self, at: &IdedExpr, call: &CallExpr) -> Result<Node> {
        let args = &call.args;
        Ok(match (call.func_name.as_str(), &args[..]) {
            (operators::LOGICAL_NOT, [arg]) => Node::Not(Box::new(self.node(arg)?)),
            (operators::NEGATE, [arg]) => Node::Negate(Box::new(self.node(arg)?)),
            (operators::LOGICAL_AND, _) => Node::And(self.logical(operators::LOGICAL_AND, at)?),
            (operators::LOGICAL_OR, _) => Node::Or(self.logical(operators::LOGICAL_OR, at)?),
            (operators::CONDITIONAL, [..]) => {
                let mut cases = Vec::new();
                let mut rest = at;
                while let Expr::Call(c) = &rest.expr
                    && c.func_name == operators::CONDITIONAL
                    && let [condition, then, otherwise] = &c.args[..]
                {
                    cases.push((self.node(condition)?, self.node(then)?));
                    rest = otherwise;
                }
                Node::If(cases.into(), Box::new(self.node(rest)?))
            }
            (name, args) => {
                let function = self.function(at, name, args.len(), false)?;
                Node::Call(function, self.nodes(args)?)
            }
        })
    }

    /// The terms of `a && b && c`, which the parser gives as a balanced tree.
    fn logical(&mut self, operator: &str, at: &IdedExpr) -> Result<Box<[Node]>> {
        let mut terms = Vec::new();
        let mut open = vec![at];
        while let Some(expr) = open.pop() {
            match &expr.expr {
                Expr::Call(c) if c.func_name == operator && c.target.is_none() => open.extend(c.args.iter().rev()),
                _ => terms.push(self.node(expr)?),
            }
        }
        Ok(terms.into())
    }

    fn method(&mut self, at: &IdedExpr, name: &str, args: &[IdedExpr]) -> Result<Link> {
        let function = self.function(at, name, args.len(), true)?;
        if function == Function::Matches
            && let [IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }] = args
        {
            let regex: Regex = functions::pattern(pattern.inner()).map_err(|e| self.fault(at, e))?;
            return Ok(Link::Matches(Box::new(regex)));
        }
        Ok(Link::Call(function, self.nodes(args)?))
    }

    fn function(&self, at: &IdedExpr, name: &str, args: usize, is_method: bool) -> Result<Function> {
        Function::find(name, args, is_method).map_err(|message| self.fault(at, message))
    }

    /// Takes a comprehension for the macro it was written as.
    fn each(&mut self, at: &IdedExpr, c: &ComprehensionExpr) -> Result<Each> {
        let (kind, body, filter) = macro_of(c).ok_or_else(|| self.fault(at, "syntax error in a comprehension"))?;
        self.locals.push(c.iter_var.clone());
        let filter = filter.map(|f| self.node(f)).transpose();
        let body = self.node(body);
        self.locals.pop();
        Ok(Each { kind, body: body?, filter: filter? })
    }
}

/// Which macro a comprehension was, what it says of each item, and the condition of a `map` that has one.
fn macro_of(c: &ComprehensionExpr) -> Option<(EachKind, &IdedExpr, Option<&IdedExpr>)> {
    let Expr::Call(step) = &c.loop_step.expr else { return None };
    match (step.func_name.as_str(), &step.args[..]) {
        (operators::LOGICAL_OR, [_, body]) => Some((EachKind::Exists, body, None)),
        (operators::LOGICAL_AND, [_, body]) => Some((EachKind::All, body, None)),
        (operators::ADD, [_, added]) => Some((EachKind::Map, only(added)?, None)),
        (operators::CONDITIONAL, [condition, step, _]) => {
            let Expr::Call(add) = &step.expr else { return None };
            let [_, added] = &add.args[..] else { return None };
            match only(added) {
                // `exists_one` counts, `filter` keeps the item itself, a `map` of three arguments makes another.
                None => Some((EachKind::ExistsOne, condition, None)),
                Some(IdedExpr { expr: Expr::Ident(name), .. }) if *name == c.iter_var => {
                    Some((EachKind::Filter, condition, None))
                }
                Some(body) => Some((EachKind::Map, body, Some(condition))),
            }
        }
        _ => None,
    }
}

/// The one item of a literal list.
fn only(list: &IdedExpr) -> Option<&IdedExpr> {
    match &list.expr {
        Expr::List(list) => list.elements.first(),
        _ => None,
    }
}

fn op(name: &str) -> Option<Op> {
    Some(match name {
        operators::ADD => Op::Add,
        operators::SUBSTRACT => Op::Subtract,
        operators::MULTIPLY => Op::Multiply,
        operators::DIVIDE => Op::Divide,
        operators::MODULO => Op::Modulo,
        operators::EQUALS => Op::Equals,
        operators::NOT_EQUALS => Op::NotEquals,
        operators::LESS => Op::Less,
        operators::LESS_EQUALS => Op::LessEquals,
        operators::GREATER => Op::Greater,
        operators::GREATER_EQUALS => Op::GreaterEquals,
        operators::IN => Op::In,
        _ => return None,
    })
}

/// The names that an expression of some place may use, for its errors.
impl Names<'_> {
    fn unknown(&self, name: &str, locals: &[String]) -> String {
        let known: Vec<&str> = self
            .roots
            .iter()
            .map(|r| r.name())
            .chain(self.bound.iter().map(|b| &**b))
            .chain(locals.iter().map(String::as_str))
            .collect();
        if let Some(hint) = (self.hint)(name) {
            return format!("there is no name `{name}` here{hint}");
        }
        let nearest = crate::suggest::nearest(name, known.iter().copied());
        match nearest {
            Some(near) => format!("there is no name `{name}` here; did you mean `{near}`?"),
            None => format!("there is no name `{name}` here; there are {}", known.join(", ")),
        }
    }
}
