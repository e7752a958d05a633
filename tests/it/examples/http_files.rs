//! The `.http` files: each request earns the status that its title names.

use std::collections::BTreeMap;

use super::{Step, files, read, run, sample_gateway, variables_of};

/// The variables at the top, and the requests.
fn parse(name: &str) -> (BTreeMap<String, String>, Vec<Step>) {
    let text = read(name);
    let mut blocks = text.split("\n### ");
    let top = blocks.next().unwrap_or_default();
    let definitions = top.lines().filter_map(|line| line.strip_prefix('@')?.split_once(" = "));
    let variables = definitions.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (variables, blocks.map(step).collect())
}

/// One request: title, comments, the line, header fields, and after a blank line the body.
fn step(block: &str) -> Step {
    let (title, rest) = block.split_once('\n').expect("more than a title");
    let (name, status) = title.rsplit_once(" -> ").unwrap_or_else(|| panic!("no status in `{title}`"));
    let is_comment = |line: &&str| line.starts_with('#');
    // "# Copy value[0].id of the answer to @workItemId at the top."
    let captured = rest.lines().filter(is_comment).map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!((words[1], words[3..7].join(" ").as_str()), ("Copy", "of the answer to"), "{line}");
        (words[2].to_owned(), words[7].trim_start_matches('@').to_owned())
    });
    let request: Vec<&str> = rest.lines().filter(|line| !is_comment(line)).collect();
    let (method, address) = request[0].split_once(' ').expect("a method and an address");
    let end = request.iter().position(|line| line.is_empty()).unwrap_or(request.len());
    let headers = request[1..end].iter().map(|line| line.split_once(": ").expect("a header field"));
    Step {
        name: name.to_owned(),
        method: method.to_owned(),
        path: address.strip_prefix("{{gateway}}").expect("at the gateway").to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: request[end..].join("\n").trim().to_owned(),
        status: status.parse().expect("a status"),
        expected: Vec::new(),
        captured: captured.collect(),
    }
}

#[test]
fn each_request_earns_what_its_title_says() {
    let gateway = sample_gateway();
    let names = files("http", ".http");
    assert_eq!(names.len(), 3, "{names:?}");
    for name in names {
        let (variables, steps) = parse(&name);
        assert!(steps.len() > 4, "{name} has requests");
        assert_eq!(variables["gateway"], "http://127.0.0.1:8080", "{name} is for the gateway that the README starts");
        for variable in variables_of(&read(&name)) {
            assert!(variables.contains_key(variable), "{name} uses `{variable}` and does not define it");
        }
        run(&gateway, &steps, variables);
    }
}
