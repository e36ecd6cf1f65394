//! A compiled expression: what the parser gives, with names resolved and chains laid flat.
//!
//! Whatever repeats without brackets (`a.b.c`, `1 + 1 + 1`, `a ? b : c ? d : e`) is a list here and not a tree, so that
//! the depth of a node is the depth of the brackets it was written with, and evaluation never recurses deeper.

use std::sync::Arc;

use regex::Regex;
use runloom_engine::Value;

use super::functions::Function;

/// What an expression sees, by the names of graph documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// What the node was given.
    State,
    /// The run's context.
    Context,
    /// The run's `configurable`, its scalars.
    Config,
    /// Which try of the node this is.
    Attempt,
    /// The arguments of a tool's call.
    Args,
    /// What a mapped subgraph gave.
    Result,
}

impl Root {
    /// All that every expression sees.
    pub const COMMON: [Root; 4] = [Root::State, Root::Context, Root::Config, Root::Attempt];

    /// The name in expressions.
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Context => "context",
            Self::Config => "config",
            Self::Attempt => "attempt",
            Self::Args => "args",
            Self::Result => "result",
        }
    }
}

/// A part of a compiled expression.
#[derive(Debug)]
pub(super) enum Node {
    Literal(Value),
    /// One of the names that the place of the expression gives.
    Root(Root),
    /// A field of such a name: the usual `state.messages`, read without making the whole.
    RootField(Root, Arc<str>),
    /// `has(state.messages)`.
    RootHas(Root, Arc<str>),
    /// A name bound by `as` in an earlier step.
    Bound(Arc<str>),
    /// The variable of a comprehension, by its depth.
    Local(usize),
    List(Box<[Node]>),
    Map(Box<[(Node, Node)]>),
    /// A first value and what is done to it, one after the other.
    Chain(Box<Node>, Box<[Link]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<[Node]>),
    Or(Box<[Node]>),
    /// Conditions with what they choose, and what is left.
    If(Box<[(Node, Node)]>, Box<Node>),
    Has(Box<Node>, Arc<str>),
    Call(Function, Box<[Node]>),
}

/// What is done to the value on the left.
#[derive(Debug)]
pub(super) enum Link {
    Field(Arc<str>),
    Index(Node),
    Op(Op, Node),
    Call(Function, Box<[Node]>),
    /// `matches` with a pattern that was compiled with the expression.
    Matches(Box<Regex>),
    Each(Each),
}

/// A comprehension: `map`, `filter`, `all`, `exists`, `exists_one`.
#[derive(Debug)]
pub(super) struct Each {
    pub kind: EachKind,
    /// What is said of each item.
    pub body: Node,
    /// The condition of a `map` of three arguments.
    pub filter: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EachKind {
    Map,
    Filter,
    All,
    Exists,
    ExistsOne,
}

/// A binary operator that evaluates both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equals,
    NotEquals,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
    In,
}

impl Op {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Equals => "==",
            Self::NotEquals => "!=",
            Self::Less => "<",
            Self::LessEquals => "<=",
            Self::Greater => ">",
            Self::GreaterEquals => ">=",
            Self::In => "in",
        }
    }
}

impl Node {
    /// True where the node only names something that is already there: its value is shared, not made.
    pub fn is_path(&self) -> bool {
        match self {
            Self::Literal(_) | Self::Root(_) | Self::RootField(..) | Self::Bound(_) | Self::Local(_) => true,
            Self::Chain(first, links) => {
                first.is_path() && links.iter().all(|l| matches!(l, Link::Field(_) | Link::Index(_)))
            }
            _ => false,
        }
    }
}

impl Node {
    /// Calls a function with every node within.
    pub fn walk<'n>(&'n self, see: &mut dyn FnMut(&'n Node)) {
        see(self);
        match self {
            Self::List(items) | Self::And(items) | Self::Or(items) | Self::Call(_, items) => {
                items.iter().for_each(|n| n.walk(see));
            }
            Self::Map(entries) => entries.iter().for_each(|(k, v)| {
                k.walk(see);
                v.walk(see);
            }),
            Self::Not(inner) | Self::Negate(inner) | Self::Has(inner, _) => inner.walk(see),
            Self::If(cases, otherwise) => {
                for (condition, then) in cases {
                    condition.walk(see);
                    then.walk(see);
                }
                otherwise.walk(see);
            }
            Self::Chain(first, links) => {
                first.walk(see);
                for link in links {
                    match link {
                        Link::Index(node) | Link::Op(_, node) => node.walk(see),
                        Link::Call(_, args) => args.iter().for_each(|n| n.walk(see)),
                        Link::Each(each) => {
                            each.body.walk(see);
                            each.filter.iter().for_each(|n| n.walk(see));
                        }
                        Link::Field(_) | Link::Matches(_) => {}
                    }
                }
            }
            Self::Literal(_)
            | Self::Root(_)
            | Self::RootField(..)
            | Self::RootHas(..)
            | Self::Bound(_)
            | Self::Local(_) => {}
        }
    }

    /// The texts that the node may come to, alone, in a list, or as the `node` of a map; `false` in `closed` where it
    /// may come to others.
    pub fn outcomes(&self, texts: &mut Vec<Arc<str>>, closed: &mut bool) {
        match self {
            Self::Literal(Value::String(text)) => texts.push(text.clone()),
            Self::If(cases, otherwise) => {
                cases.iter().for_each(|(_, then)| then.outcomes(texts, closed));
                otherwise.outcomes(texts, closed);
            }
            Self::List(items) => items.iter().for_each(|i| i.outcomes(texts, closed)),
            Self::Map(entries) => {
                *closed = false;
                let node = entries.iter().find(|(k, _)| matches!(k, Self::Literal(v) if v.as_str() == Some("node")));
                if let Some((_, node)) = node {
                    node.outcomes(texts, closed);
                }
            }
            Self::Chain(_, links) => {
                *closed = false;
                if let Some(Link::Each(Each { kind: EachKind::Map, body, .. })) = links.last() {
                    body.outcomes(texts, closed);
                }
            }
            _ => *closed = false,
        }
    }
}
