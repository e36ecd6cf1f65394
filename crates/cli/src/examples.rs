//! The example graphs, which are built into the binary.

use crate::failure::Result;

/// The files of `examples/`.
const FILES: [(&str, &str); 7] = [
    ("approval.yaml", include_str!("../../../examples/approval.yaml")),
    ("handbook.yaml", include_str!("../../../examples/handbook.yaml")),
    ("joke.yaml", include_str!("../../../examples/joke.yaml")),
    ("map_reduce.yaml", include_str!("../../../examples/map_reduce.yaml")),
    ("resume.yaml", include_str!("../../../examples/resume.yaml")),
    ("support_agent.yaml", include_str!("../../../examples/support_agent.yaml")),
    ("agent.yaml", include_str!("../../../examples/agent.yaml")),
];

/// The file name and the text of each example.
pub fn texts() -> Vec<(String, String)> {
    FILES.iter().map(|(name, text)| (format!("examples/{name}"), (*text).to_owned())).collect()
}

/// The documents of a folder, or the examples if no folder is named.
pub fn or_folder(folder: Option<&std::path::Path>) -> Result<Vec<(String, String)>> {
    folder.map_or_else(|| Ok(texts()), crate::graph::texts)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use runloom_document::{DocumentSet, Registry};

    #[test]
    fn every_example_is_here_and_loads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let there: BTreeSet<String> = names.filter(|name| name.ends_with(".yaml")).collect();
        let here: BTreeSet<String> = super::FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(here, there, "add it to FILES");
        let (set, problems) = DocumentSet::read(super::texts(), &Registry::new());
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(set.len(), here.len());
    }
}
