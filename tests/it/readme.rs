//! The README's examples, run as written against a gateway that was started as the README says.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// The `sh` blocks of the README, in order.
fn blocks(readme: &str) -> Vec<String> {
    readme
        .split("\n```sh\n")
        .skip(1)
        .map(|rest| rest.split("\n```").next().expect("the block ends").to_owned())
        .collect()
}

fn copy_configuration(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    std::fs::create_dir_all(to.join("config/organizations")).expect("a folder");
    for name in ["streamgate.toml", "organizations/contoso.toml"] {
        std::fs::copy(from.join(name), to.join("config").join(name)).expect("copied");
    }
}

#[test]
fn the_examples_work_as_written() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "curl is missing");
        eprintln!("SKIPPED: curl is not installed, so the README's examples were not run");
        return;
    }
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("readable");
    let folder = tempfile::tempdir().expect("a folder");
    copy_configuration(folder.path());
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_streamgate"))
        .current_dir(folder.path())
        .args(["--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .env_remove("STREAMGATE_CONFIG")
        .env_remove("STREAMGATE_DATA_DIR")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut line = String::new();
    BufReader::new(gateway.stdout.take().expect("its output")).read_line(&mut line).expect("a greeting");
    let greeting: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let url = greeting["publicUrl"].as_str().expect("an address");
    let admin_url = greeting["adminUrl"].as_str().expect("an address");
    let record = folder.path().join("record.json");

    let run = |block: &str| {
        let block = block.replace("http://127.0.0.1:8080", url).replace("/tmp/record.json", &record.to_string_lossy());
        let block = block.replace("cargo run --release --quiet --", env!("CARGO_BIN_EXE_streamgate"));
        let mut shell = Command::new("sh");
        shell.current_dir(folder.path()).env("STREAMGATE_URL", url).env("STREAMGATE_ADMIN_URL", admin_url);
        let output = shell.env_remove("STREAMGATE_API_KEY").args(["-e", "-c", &block]).output().expect("ran");
        assert!(output.status.success() || output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let blocks = blocks(&readme);
    let answers: Vec<String> = blocks.iter().map(|block| run(block)).collect();
    assert_eq!(answers.len(), 4, "the README has four examples to run");
    assert!(answers[0].starts_with("HTTP/1.1 202"), "{}", answers[0]);
    assert!(answers[1].contains(r#""state":"accepted""#), "{}", answers[1]);
    assert!(answers[2].contains(r#""leaseToken":"#), "{}", answers[2]);
    for line in ["Organization `litware`", "NAME  QUEUE   STATE", "High  Urgent  active", "unique_name = \"litware\""] {
        assert!(answers[3].contains(line), "`{line}` is not in\n{}", answers[3]);
    }

    // "put `state = "inactive"` into the entity configuration of `incident` in the same file"
    let file = folder.path().join("config/organizations/contoso.toml");
    let text = std::fs::read_to_string(&file).expect("readable");
    let incident = "entity_set_name = \"incidents\"\n";
    assert!(text.contains(incident), "the sample configures incidents");
    std::fs::write(&file, text.replacen(incident, &format!("{incident}state = \"inactive\"\n"), 1)).expect("written");
    let refused = crate::support::eventually("the deactivation to count", || {
        Some(run(&blocks[0])).filter(|answer| answer.starts_with("HTTP/1.1 404"))
    });
    assert!(refused.contains(r#""code":"entity-configuration-inactive""#), "{refused}");
    gateway.kill().expect("killed");
    gateway.wait().expect("gone");
}
