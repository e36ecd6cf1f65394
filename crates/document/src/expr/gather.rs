//! What a comprehension comes to.

use runloom_engine::{List, Value};

use super::{
    eval::{Fault, shallow},
    node::EachKind,
};

type Result<T> = std::result::Result<T, Fault>;

/// What a comprehension has come to so far.
pub(super) struct Gather {
    kind: EachKind,
    items: Vec<Value>,
    count: usize,
    failed: Option<String>,
    decided: bool,
}

impl Gather {
    pub fn new(kind: EachKind) -> Self {
        Self { kind, items: Vec::new(), count: 0, failed: None, decided: false }
    }

    /// Takes what was said of an item; true where nothing more needs to be said.
    pub fn take(&mut self, item: Value, said: Result<Value>) -> Result<bool> {
        let decisive = self.kind == EachKind::Exists;
        match (self.kind, said) {
            (EachKind::All | EachKind::Exists, Err(Fault::Fails(message))) => {
                self.failed.get_or_insert(message);
            }
            (_, Err(fault)) => return Err(fault),
            (EachKind::Map, Ok(made)) => self.items.push(made),
            (EachKind::Filter, Ok(Value::Bool(true))) => self.items.push(item),
            (EachKind::ExistsOne, Ok(Value::Bool(true))) => self.count += 1,
            (EachKind::All | EachKind::Exists, Ok(said)) => self.decided = said == Value::Bool(decisive),
            _ => {}
        }
        Ok(self.decided)
    }

    pub fn finish(self) -> Result<Value> {
        match self.kind {
            EachKind::Map | EachKind::Filter => shallow(Value::List(List::from(self.items))),
            EachKind::ExistsOne => Ok(Value::Bool(self.count == 1)),
            EachKind::All | EachKind::Exists => match self.failed {
                Some(message) if !self.decided => Err(Fault::Fails(message)),
                _ => Ok(Value::Bool(self.decided == (self.kind == EachKind::Exists))),
            },
        }
    }
}
