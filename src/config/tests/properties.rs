//! Whatever stands in a file, reading it ends: in a configuration or in faults with places.

use proptest::prelude::*;

use super::*;
use crate::config::load::{EXAMPLE_ORGANIZATION, MANUAL};

fn reads_to_an_end(files: &Files) {
    let overrides = Overrides { read_only: true, ..files.overrides() };
    if let Err(faults) = files.attempt(&overrides).outcome {
        assert!(faults.iter().all(|fault| !fault.message.is_empty() && !fault.file.is_empty()));
        assert!(!faults.to_string().is_empty());
    }
}

/// The text with a few bytes replaced, removed or put in: mostly TOML, mostly wrong.
fn damaged(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let damage = (any::<prop::sample::Index>(), 0..40_usize, proptest::collection::vec(any::<u8>(), 0..6));
    proptest::collection::vec(damage, 1..4).prop_map(move |damages| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, removed, put_in) in damages {
            let start = at.index(bytes.len().max(1)).min(bytes.len());
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, put_in);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(main in proptest::collection::vec(any::<u8>(), 0..300), organization in "\\PC{0,200}") {
        let files = Files::new("", &[("a.toml", &organization)]);
        std::fs::write(files.path("streamgate.toml"), main).expect("written");
        reads_to_an_end(&files);
    }

    #[test]
    fn damaged_files(main in damaged(MANUAL), organization in damaged(EXAMPLE_ORGANIZATION)) {
        let files = Files::new("", &[]);
        std::fs::write(files.path("streamgate.toml"), main).expect("written");
        std::fs::write(files.path("organizations/contoso.toml"), organization).expect("written");
        reads_to_an_end(&files);
    }

    #[test]
    fn every_beginning_of_a_file(end in any::<prop::sample::Index>()) {
        let text = EXAMPLE_ORGANIZATION;
        let end = end.index(text.len());
        let files = Files::new("", &[]);
        std::fs::write(files.path("organizations/contoso.toml"), &text.as_bytes()[..end]).expect("written");
        reads_to_an_end(&files);
    }
}

/// In both ways of writing them, since the parser goes different ways.
#[test]
fn more_than_a_hundred_thousand_entities_are_read() {
    use std::fmt::Write as _;
    const EACH: usize = 55_000;
    let stream = "[[work_streams]]\nid = \"7c2e9d54-41a8-ea11-a812-000d3a579c31\"\nname = \"a\"\n";
    let mut in_line = format!("{CONTOSO}{stream}entities = [\n");
    let mut in_blocks = format!("{CONTOSO}{stream}").replace("contoso", "fabrikam").replace("0f3b", "1f3b");
    for number in 0..EACH {
        let [id, name, set] = [
            format!("id=\"{number:032x}\""),
            format!("entity_logical_name=\"e{number}\""),
            "entity_set_name=\"s\"".to_owned(),
        ];
        writeln!(in_line, "{{{id},{name},{set}}},").expect("written");
        writeln!(in_blocks, "[[work_streams.entities]]\n{id}\n{name}\n{set}").expect("written");
    }
    in_line.push_str("]\n");
    let files = Files::new("", &[("contoso.toml", &in_line), ("fabrikam.toml", &in_blocks)]);
    let config = files.load().expect("no fault");
    for organization in config.effective.catalog.organizations() {
        assert_eq!(organization.work_streams.values().map(|stream| stream.entities.len()).sum::<usize>(), EACH);
    }
    assert_eq!(config.effective.catalog.organizations().count(), 2);
}
