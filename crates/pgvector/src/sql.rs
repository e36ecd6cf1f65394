//! What is asked of the database.

use runloom_retrievers::{Distance, VectorTable};

/// The closest rows of a table: `$1` a vector as text, `$2` what the metadata has to hold, `$3` how many.
pub(super) fn search(table: &VectorTable) -> String {
    let operator = match table.distance {
        Distance::Cosine => "<=>",
        Distance::Euclidean => "<->",
        Distance::InnerProduct => "<#>",
    };
    let name = table.table.split('.').map(quoted).collect::<Vec<_>>().join(".");
    let [id, content, metadata, embedding] =
        [&table.id, &table.content, &table.metadata, &table.embedding].map(|column| quoted(column));
    format!(
        "SELECT {id}::text, {content}::text, {metadata}::jsonb FROM {name} WHERE ($2 = '{{}}'::jsonb OR {metadata}::jsonb @> $2) \
         ORDER BY {embedding} {operator} $1::text::vector LIMIT $3"
    )
}

/// A vector as pgvector writes it.
pub(super) fn vector(numbers: &[f32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// A name as it stands, whatever is in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_the_distance_is_an_operator() {
        let mut table = VectorTable::new("public.my\"docs; DROP TABLE x");
        table.distance = Distance::Euclidean;
        let sql = search(&table);
        assert!(sql.contains(r#"FROM "public"."my""docs; DROP TABLE x" WHERE"#), "{sql}");
        assert!(sql.contains(r#"ORDER BY "embedding" <-> $1"#), "{sql}");
        assert_eq!(vector(&[1.0, -0.5, 1e-7]), "[1,-0.5,0.0000001]");
    }
}
