//! Evaluation: over the engine's shared values, within a budget, and never deeper than the expression was written.

use std::sync::Arc;

use runloom_engine::{List, Object, Value};

use super::{
    call,
    env::Env,
    gather::Gather,
    node::{Each, EachKind, Link, Node, Root},
    ops,
};

/// The most steps of one evaluation: some milliseconds.
pub const MAX_STEPS: usize = 500_000;

/// Why an evaluation stops.
#[derive(Debug)]
pub(super) enum Fault {
    /// The expression fails; `&&`, `||`, `all` and `exists` may not need it.
    Fails(String),
    /// It takes too much; nothing may swallow that.
    Exhausted(&'static str),
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Self {
        Self::Fails(message.into())
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// What is left of an evaluation's steps.
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    pub fn new() -> Self {
        Self { left: MAX_STEPS }
    }

    pub fn used(&self) -> usize {
        MAX_STEPS - self.left
    }

    pub fn spend(&mut self, steps: usize) -> Result<()> {
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Fault::Exhausted("it takes too many steps")),
        }
    }

    /// For work on texts, which goes through many bytes at a step.
    pub fn spend_bytes(&mut self, bytes: usize) -> Result<()> {
        self.spend(bytes / 64 + 1)
    }
}

pub(super) struct Eval<'a> {
    pub env: &'a Env<'a>,
    pub budget: Budget,
    /// The items of the comprehensions around, innermost last.
    locals: Vec<Value>,
}

impl<'a> Eval<'a> {
    pub fn new(env: &'a Env<'a>) -> Self {
        Self { env, budget: Budget::new(), locals: Vec::new() }
    }

    pub fn node(&mut self, node: &Node) -> Result<Value> {
        self.budget.spend(1)?;
        match node {
            Node::Literal(v) => Ok(v.clone()),
            Node::Root(root) => Ok(self.env.root(*root)),
            Node::RootField(root, name) => self.root_field(*root, name),
            Node::RootHas(root, name) => Ok(Value::Bool(self.env.field(*root, name).is_some())),
            Node::Bound(name) => self.bound(name),
            Node::Local(depth) => Ok(self.locals.get(*depth).cloned().unwrap_or_default()),
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Chain(first, links) => self.chain(first, links),
            Node::Not(inner) => Ok(Value::Bool(!self.bool(inner, "`!`")?)),
            Node::Negate(inner) => self.negate(inner),
            Node::And(terms) => self.logical(terms, false),
            Node::Or(terms) => self.logical(terms, true),
            Node::If(cases, otherwise) => self.choose(cases, otherwise),
            Node::Has(inner, field) => self.has(inner, field),
            Node::Call(function, args) => self.call(*function, None, args),
        }
    }

    fn root_field(&mut self, root: Root, name: &str) -> Result<Value> {
        self.env.field(root, name).ok_or_else(|| {
            let whole = root.name();
            Fault::new(format!("`{whole}` holds no `{name}`; `has({whole}.{name})` asks whether it does"))
        })
    }

    fn bound(&self, name: &str) -> Result<Value> {
        let found = self.env.bound.iter().rev().find(|(n, _)| &**n == name);
        found.map(|(_, v)| v.clone()).ok_or_else(|| Fault::new(format!("nothing has been bound to `{name}` yet")))
    }

    fn list(&mut self, items: &[Node]) -> Result<Value> {
        let items: Vec<Value> = items.iter().map(|i| self.node(i)).collect::<Result<_>>()?;
        shallow(Value::List(List::from(items)))
    }

    fn map(&mut self, entries: &[(Node, Node)]) -> Result<Value> {
        let mut fields: Vec<(Arc<str>, Value)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = match self.node(key)? {
                Value::String(key) => key,
                other => return Err(Fault::new(format!("the keys of a map are texts, not {}", other.kind()))),
            };
            fields.push((key, self.node(value)?));
        }
        let object: Object = fields.iter().cloned().collect();
        if object.len() < fields.len() {
            return Err(Fault::new("a map has the same key twice"));
        }
        shallow(Value::Object(object))
    }

    fn bool(&mut self, node: &Node, what: &str) -> Result<bool> {
        match self.node(node)? {
            Value::Bool(b) => Ok(b),
            other => Err(Fault::new(format!("{what} needs true or false, not {}", other.kind()))),
        }
    }

    fn negate(&mut self, inner: &Node) -> Result<Value> {
        let value = self.node(inner)?;
        match &value {
            Value::Float(f) => Ok(Value::Float(-f)),
            _ => match ops::integer(&value) {
                Some(i) => ops::fit(-i, true).ok_or_else(|| Fault::new(format!("`-{value}` does not fit 64 bits"))),
                None => Err(Fault::new(format!("`-` does not take {}", value.kind()))),
            },
        }
    }

    /// `&&` and `||`: one term that decides is enough, whatever the others fail with.
    fn logical(&mut self, terms: &[Node], decisive: bool) -> Result<Value> {
        let mut failed = None;
        for term in terms {
            match self.bool(term, if decisive { "`||`" } else { "`&&`" }) {
                Ok(b) if b == decisive => return Ok(Value::Bool(decisive)),
                Ok(_) => {}
                Err(Fault::Fails(message)) => failed = failed.or(Some(message)),
                Err(exhausted) => return Err(exhausted),
            }
        }
        failed.map_or(Ok(Value::Bool(!decisive)), |message| Err(Fault::Fails(message)))
    }

    fn choose(&mut self, cases: &[(Node, Node)], otherwise: &Node) -> Result<Value> {
        for (condition, then) in cases {
            if self.bool(condition, "`? :`")? {
                return self.node(then);
            }
        }
        self.node(otherwise)
    }

    fn has(&mut self, inner: &Node, field: &str) -> Result<Value> {
        match self.node(inner)? {
            Value::Object(fields) => Ok(Value::Bool(fields.contains_key(field))),
            other => Err(Fault::new(format!("`has` looks into an object, not into {}", other.kind()))),
        }
    }

    fn chain(&mut self, first: &Node, links: &[Link]) -> Result<Value> {
        let mut value = self.node(first)?;
        for link in links {
            self.budget.spend(1)?;
            value = match link {
                Link::Field(name) => field(&value, name)?,
                Link::Index(index) => {
                    let index = self.node(index)?;
                    item(&value, &index)?
                }
                Link::Op(op, right) => {
                    let right = self.node(right)?;
                    ops::apply(*op, value, right, &mut self.budget)?
                }
                Link::Call(function, args) => self.call(*function, Some(value), args)?,
                Link::Matches(regex) => call::matches(&value, regex, &mut self.budget)?,
                Link::Each(each) => self.each(&value, each)?,
            };
        }
        Ok(value)
    }

    fn call(&mut self, function: super::functions::Function, on: Option<Value>, args: &[Node]) -> Result<Value> {
        let mut all: Vec<Value> = Vec::with_capacity(args.len() + 1);
        all.extend(on);
        for arg in args {
            all.push(self.node(arg)?);
        }
        shallow(call::call(function, &all, &mut self.budget)?)
    }

    fn each(&mut self, over: &Value, each: &Each) -> Result<Value> {
        let mut gather = Gather::new(each.kind);
        let depth = self.locals.len();
        let result = match over {
            Value::List(items) => self.items(items.iter().cloned(), each, &mut gather),
            Value::Object(fields) => self.items(fields.keys().map(Value::from), each, &mut gather),
            other => Err(Fault::new(format!("a list or an object is gone through, not {}", other.kind()))),
        };
        self.locals.truncate(depth);
        result?;
        gather.finish()
    }

    fn items(&mut self, items: impl Iterator<Item = Value>, each: &Each, gather: &mut Gather) -> Result<()> {
        for item in items {
            self.budget.spend(1)?;
            self.locals.push(item.clone());
            if let Some(filter) = &each.filter
                && !self.bool(filter, "the condition of `map`")?
            {
                self.locals.pop();
                continue;
            }
            let said = match each.kind {
                EachKind::Map => self.node(&each.body),
                _ => self.bool(&each.body, "the condition").map(Value::Bool),
            };
            self.locals.pop();
            if gather.take(item, said)? {
                break;
            }
        }
        Ok(())
    }
}

/// Refuses what nests deeper than a state may.
pub(super) fn shallow(value: Value) -> Result<Value> {
    if value.depth() > MAX_DEPTH {
        return Err(Fault::new(format!("the value nests deeper than {MAX_DEPTH}")));
    }
    Ok(value)
}

/// Below the engine's own limit, so that what an expression makes still fits into a state and its messages.
const MAX_DEPTH: usize = 100;

fn field(value: &Value, name: &str) -> Result<Value> {
    match value {
        Value::Object(fields) => fields
            .get(name)
            .cloned()
            .ok_or_else(|| Fault::new(format!("there is no `{name}`; `has(x.{name})` asks whether there is"))),
        other => Err(Fault::new(format!("`.{name}` is read from an object, not from {}", other.kind()))),
    }
}

fn item(value: &Value, index: &Value) -> Result<Value> {
    match (value, index) {
        (Value::Object(_), Value::String(name)) => field(value, name),
        (Value::List(items), Value::Int(_) | Value::UInt(_) | Value::Float(_)) => {
            let at = match index {
                Value::Float(f) if f.fract() == 0.0 && f.abs() < 1e15 => Some(*f as i128),
                other => ops::integer(other),
            };
            let found = at.and_then(|i| usize::try_from(i).ok()).and_then(|i| items.get(i));
            found.cloned().ok_or_else(|| Fault::new(format!("there is no item {index} in a list of {}", items.len())))
        }
        _ => Err(Fault::new(format!("{} has no item by {}", value.kind(), index.kind()))),
    }
}
