//! Pages of lists, and the tokens by which the next one is asked for.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{Error, Result};

/// Which way a list goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// The smallest, or oldest, first.
    Ascending,
    /// The greatest, or newest, first.
    #[default]
    Descending,
}

/// Which page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// At most so many; 0 is 100, and more than 1000 is 1000.
    pub size: usize,
    /// [`Page::next`] of the page before, with the same filter and order; none for the first.
    pub token: Option<String>,
    /// Leave out so many first.
    pub skip: usize,
}

impl PageRequest {
    /// The first page, of a size.
    pub fn first(size: usize) -> Self {
        Self { size, ..Self::default() }
    }

    /// The page after a token.
    pub fn after(size: usize, token: impl Into<String>) -> Self {
        Self { size, token: Some(token.into()), skip: 0 }
    }

    /// The size of the page, within 1 to 1000.
    pub fn size(&self) -> usize {
        if self.size == 0 { 100 } else { self.size.min(1000) }
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// The token of the next page, where there is one.
    pub next: Option<String>,
}

/// Where in a list a page ended: the sort key of its last item, and that item's place among those of the same key.
///
/// New items never shift what a token stands for. A token names the order it was made in: another order refuses it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The value by which the list is sorted.
    pub key: Key,
    /// Orders items with the same key.
    pub ordinal: i64,
}

/// A sort key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A number or a time.
    Int(i64),
    /// A text or an id.
    Bytes(Vec<u8>),
}

impl Position {
    /// The token for this place in an order.
    pub fn token(&self, order: u8) -> String {
        let mut raw = vec![order];
        raw.extend(self.ordinal.to_be_bytes());
        match &self.key {
            Key::Int(i) => {
                raw.push(0);
                raw.extend(i.to_be_bytes());
            }
            Key::Bytes(bytes) => {
                raw.push(1);
                raw.extend(bytes);
            }
        }
        URL_SAFE_NO_PAD.encode(raw)
    }

    /// Reads a token of the same order.
    pub fn parse(token: &str, order: u8) -> Result<Self> {
        let raw = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        let read = || {
            let (head, rest) = raw.split_first_chunk::<10>()?;
            let ordinal = i64::from_be_bytes(head[1..9].try_into().ok()?);
            let key = match head[9] {
                0 => Key::Int(i64::from_be_bytes(rest.try_into().ok()?)),
                1 => Key::Bytes(rest.to_vec()),
                _ => return None,
            };
            Some((head[0], Self { key, ordinal }))
        };
        match read() {
            Some((found, position)) if found == order => Ok(position),
            Some(_) => {
                Err(Error::Invalid("the page token is of a list in another order; start at its first page".into()))
            }
            None => Err(Error::Invalid("the page token is not one that a list gave; start at the first page".into())),
        }
    }
}

/// The page of a list that is all at hand.
pub fn paginate<T>(
    mut rows: Vec<(Position, T)>,
    order: u8,
    direction: Direction,
    request: &PageRequest,
) -> Result<Page<T>> {
    let after = request.token.as_deref().map(|token| Position::parse(token, order)).transpose()?;
    rows.sort_by(|(a, _), (b, _)| match direction {
        Direction::Ascending => a.cmp(b),
        Direction::Descending => b.cmp(a),
    });
    let past = |position: &Position| match (&after, direction) {
        (None, _) => true,
        (Some(after), Direction::Ascending) => position > after,
        (Some(after), Direction::Descending) => position < after,
    };
    let mut page = Page { items: Vec::new(), next: None };
    let mut last = None;
    for (position, item) in rows.into_iter().filter(|(position, _)| past(position)).skip(request.skip) {
        if page.items.len() == request.size() {
            page.next = last.map(|last: Position| last.token(order));
            break;
        }
        page.items.push(item);
        last = Some(position);
    }
    Ok(page)
}

/// One byte that names an order: what is listed, by what, and which way.
pub fn order_tag(list: u8, sort: u8, direction: Direction) -> u8 {
    list << 5 | sort << 1 | u8::from(direction == Direction::Descending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_another_order_refuses_it() {
        for key in [Key::Int(-3), Key::Bytes(b"name".to_vec()), Key::Bytes(vec![])] {
            let position = Position { key, ordinal: 1 << 40 };
            assert_eq!(Position::parse(&position.token(7), 7).unwrap(), position);
            assert!(Position::parse(&position.token(7), 8).unwrap_err().to_string().contains("another order"));
        }
        for nonsense in ["", "x", "!!!!", "AAAA", "BwAAAAAAAAAACQ"] {
            assert!(matches!(Position::parse(nonsense, 7), Err(Error::Invalid(_))), "{nonsense}");
        }
    }
}
