//! What can go wrong inside an operation, and what an error of the driver means.

use runloom_store::Error;

/// The result of something inside a transaction.
pub(crate) type Done<T> = std::result::Result<T, Fault>;

/// An error inside a transaction: one of the store's own, or one of the database, which may be retried.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The operation is refused, or what is stored cannot be read.
    Store(Error),
    /// The database or the connection failed.
    Database(sqlx::Error),
}

/// What to do about an error of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Another transaction was in the way: run this one again.
    Conflict,
    /// The connection is lost, or the server does not take this work now.
    Lost,
    /// The server takes no writes: a standby.
    ReadOnly,
    /// Retrying does not help.
    Lasting,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<sqlx::error::BoxDynError> for Fault {
    fn from(error: sqlx::error::BoxDynError) -> Self {
        Self::Database(sqlx::Error::Encode(error))
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) => error,
            Fault::Database(error) => explain(&error),
        }
    }
}

/// Classifies an error by its SQLSTATE.
pub(crate) fn classify(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Database(of) => match &*of.code().unwrap_or_default() {
            // Serialization failure, deadlock, and a row that another transaction inserted meanwhile.
            "40001" | "40P01" | "23505" => Class::Conflict,
            "25006" => Class::ReadOnly,
            // A statement or lock timeout, and one that an administrator cancelled.
            "57014" | "55P03" => Class::Lasting,
            code if ["08", "57P", "53", "58"].iter().any(|class| code.starts_with(class)) => Class::Lost,
            _ => Class::Lasting,
        },
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => {
            Class::Lost
        }
        _ => Class::Lasting,
    }
}

/// What an error of the database means to the caller. The database's own words are in the log.
pub(crate) fn explain(error: &sqlx::Error) -> Error {
    if !matches!(error, sqlx::Error::PoolClosed) {
        tracing::error!(%error, "an operation on the database failed");
    }
    match error {
        sqlx::Error::Database(of) => {
            let code = of.code().unwrap_or_default();
            match &*code {
                "57014" => Error::Unavailable(
                    "a statement took longer than the statement timeout; raise it, or look for what slows the database down"
                        .into(),
                ),
                "53100" => Error::Unavailable("the disk of the database is full".into()),
                "53300" => Error::Unavailable("the database has no connection left; use a smaller pool or a pooler".into()),
                "25006" => Error::Unavailable("the database takes no writes: it is a standby".into()),
                "22021" | "22P05" => Error::Invalid("a text with the character U+0000 cannot be stored".into()),
                "54000" | "54001" => Error::Invalid("it is too big to be stored in one row; the limit is 1 GB".into()),
                "26000" => Error::Unavailable(
                    "a prepared statement is lost: a pooler in transaction mode stands before the database; give its \
                     direct address as the URL to listen on"
                        .into(),
                ),
                _ if classify(error) == Class::Lost => Error::Unavailable("the database is not serving now".into()),
                "40001" | "40P01" | "23505" => {
                    Error::Unavailable("other transactions were in the way again and again".into())
                }
                code => Error::Corrupt(format!("the database refused it: {} (SQLSTATE {code})", of.message())),
            }
        }
        sqlx::Error::PoolTimedOut => Error::Unavailable("no connection to the database within the time limit".into()),
        sqlx::Error::PoolClosed => Error::stopped(),
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => {
            Error::Unavailable("the connection to the database is lost".into())
        }
        sqlx::Error::Encode(_) => Error::Invalid("it cannot be stored: a value is too big".into()),
        other => Error::Corrupt(format!("a row of the database cannot be read: {other}")),
    }
}
