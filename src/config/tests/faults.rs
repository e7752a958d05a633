//! Every fault that a configuration can have: where it is reported, and what is said.

use super::*;

/// Each text has exactly the one fault, on this line, with this in its message.
fn each_has_one_fault(file: &str, cases: &[(&str, usize, &str)], files_with: impl Fn(&str) -> Files) {
    for (text, line, part) in cases {
        let found = files_with(text).faults();
        let [fault] = found.as_slice() else { panic!("{text}\nnot one fault but {found:#?}") };
        assert!(fault.starts_with(&format!("{file}:{line}: ")), "{text}\n{fault}");
        assert!(fault.contains(part), "{text}\n{fault}");
    }
}

fn with_main(main: &str) -> Files {
    Files::new(main, &[("contoso.toml", CONTOSO)])
}

fn with_rest_of_organization(rest: &str) -> Files {
    Files::new("", &[("contoso.toml", &format!("{CONTOSO}{rest}"))])
}

#[test]
fn of_the_process() {
    each_has_one_fault(
        "streamgate.toml",
        &[
            ("listen = ", 1, "not valid TOML"),
            ("listen = 8080", 1, "`listen` must be a string, not a whole number"),
            ("\nlisten = \"localhost\"", 2, "not an address and a port"),
            ("lisen = \"127.0.0.1:1\"", 1, "unknown key `lisen`"),
            ("[limit]", 1, "unknown key `limit`"),
            ("listen = \"127.0.0.1:1\"\nadmin_listen = \"127.0.0.1:1\"", 2, "both 127.0.0.1:1"),
            ("public_scheme = \"ftp\"", 1, "`public_scheme` cannot be `ftp`"),
            ("public_host = \"gateway.example.com\"", 1, "exactly once"),
            ("public_host = \"{organization}.{organization}.example.com\"", 1, "exactly once"),
            ("public_host = \"https://{organization}.example.com\"", 1, "not a host name"),
            ("organizations = \"organizations/\"", 1, "names a folder"),
            ("organizations = \"*/a.toml\"", 1, "in the file name only"),
            ("limits = 1", 1, "must be a table"),
            ("[limits]\n\nmax_bdy_bytes = 1", 3, "unknown key `max_bdy_bytes` in [limits]"),
            ("[limits]\nmax_body_bytes = 8_388_609", 2, "between 1024 and 8388608, not 8388609"),
            ("[limits]\nmax_body_bytes = -1", 2, "not -1"),
            ("[limits]\nmax_body_bytes = 0x10000000000000000000000000000000000000000", 2, "must be between"),
            ("[limits]\nmax_body_bytes = \"1 MiB\"", 2, "must be a whole number, not a string"),
            ("[limits]\nmax_body_bytes = 1.5", 2, "not a number with a fraction"),
            ("[limits]\nmax_body_bytes = 2_000_000\nmax_in_flight_bytes = 1_500_000", 3, "less than one body"),
            ("[limits]\nburst = 0", 2, "`burst` must be between 1"),
            ("[limits]\nkeep_alive_seconds = nan", 2, "must be between"),
            ("[limits]\nkeep_alive_seconds = \"15s\"", 2, "must be a number"),
            ("[limits]\nburst = 1\nburst = 2", 3, "duplicate key"),
            ("[store]\nduplicate_window_days = 0", 2, "between 1 and"),
            ("[retention]\ndelivered_days = 29", 2, "`delivered_days` is less than `store.duplicate_window_days`"),
            ("[retention]\ndead_letters_days = 29", 2, "less than `store.duplicate_window_days`"),
            ("[store]\nduplicate_window_days = 91\n[retention]\ndead_letters_days = 90", 4, "less than `store."),
            ("[retention]\ndelivered_details_days = 31", 2, "is more than `delivered_days`"),
            ("[retention]\naccepted_days = 0", 2, "between 1 and 36500"),
            ("[log]\nformat = \"jsn\"", 2, "cannot be `jsn`"),
            ("[log]\nfilter = \"streamgate=loud\"", 2, "not a log filter"),
            ("[delivery]\nlongest_pause_seconds = 0.5", 2, "less than `first_pause_seconds`"),
            ("[delivery]\nfirst_pause_seconds = 0", 2, "between 0.01 and 3600"),
            ("listen = \"0.0.0.0:8080\"", 1, "no credential is configured"),
            ("\nadmin_listen = \"[::]:8081\"", 2, "no credential is configured"),
            ("a.b.c.d.e.f.g.h.i.j.k.l.m.n = 1", 1, "more parts"),
        ],
        with_main,
    );
    let empty = Files::new("data_dir = \" \"", &[("contoso.toml", CONTOSO)]);
    let faults = empty.attempt(&Overrides::default()).outcome.expect_err("a fault");
    assert!(faults.to_string().contains("`data_dir` is empty"), "{faults}");
}

#[test]
fn of_routing_queues() {
    let queue = |lines: &str| format!("[routing_queues.a]\nkind = \"http\"\nsecret_env = \"SECRET\"\n{lines}");
    let url = |url: &str| queue(&format!("url = \"{url}\""));
    let cases = [
        (queue(""), 1, "`url` is missing in [routing_queues.…]"),
        (url("not a url"), 4, "is not a URL"),
        (url("file:///etc/passwd"), 4, "must be https or http, not file"),
        (url("gopher://example.com/"), 4, "must be https or http"),
        (url("http://example.com/"), 4, "must be https"),
        (url("https://user:word@example.com/"), 4, "user name or a password"),
        (url("https://user@example.com/"), 4, "user name or a password"),
        (url("https://example.com/#a"), 4, "fragment"),
        (url("https://127.1/"), 4, "127.0.0.1 is not a public address"),
        (url("https://0x7f.1/"), 4, "127.0.0.1 is not a public address"),
        (url("https://2130706433/"), 4, "127.0.0.1 is not a public address"),
        (url("https://[::ffff:127.0.0.1]/"), 4, "::ffff:127.0.0.1 is not a public address"),
        (url("https://169.254.169.254/"), 4, "169.254.169.254 is not a public address"),
        (url("https://10.1.2.3/"), 4, "is not a public address"),
        (url("https://localhost/"), 4, "localhost is this machine"),
        (url("http://a.localhost./"), 4, "is this machine"),
        (queue("url = \"http://10.1.2.3/\"\nallow_networks = [\"10.2.0.0/16\"]"), 4, "not a public address"),
        (queue("url = \"https://example.com/\"\nallow_networks = [\"10.0.0.0/33\"]"), 5, "is not a network"),
        (queue("url = \"https://example.com/\"\nconcurrency = 0"), 5, "`concurrency` must be between"),
        (queue("url = \"https://example.com/\"\nbatch_max_events = 0"), 5, "`batch_max_events` must be between"),
        (queue("url = \"https://example.com/\"\nbatch_max_events = 1_001"), 5, "`batch_max_events` must be between"),
        (queue("url = \"https://example.com/\"\nbatch_max_bytes = 1_000"), 5, "`batch_max_bytes` must be between"),
        (queue("url = \"https://example.com/\"\ntimeout = 1"), 5, "unknown key `timeout`"),
        (queue("url = \"https://example.com/\"\nsecret = \"whsec_\""), 5, "unknown key `secret`"),
        (queue("url = \"https://example.com/\"\nsecret_file = \"a\""), 3, "both set"),
        (queue("url = \"https://example.com/\"\ncreate_secret = true"), 5, "needs a `secret_file`"),
        (queue("url = \"https://example.com/\"\nprevious_secret_env = \"OTHER\""), 5, "`OTHER` is not set"),
        (url("https://example.com/").replace("\"SECRET\"", "\"OTHER\""), 3, "`OTHER` is not set"),
        (url("https://example.com/").replace("\"SECRET\"", "\"\""), 3, "`secret_env` is empty"),
        (url("https://example.com/").replace("secret_env = \"SECRET\"", ""), 1, "is missing"),
        (url("https://example.com/").replace("\"http\"", "\"amqp\""), 2, "`kind` cannot be `amqp`"),
        (queue("url = \"https://example.com/\"\nstream = \"S\""), 5, "`stream` is for routing queues of kind `nats`"),
        (url("https://example.com/").replace("kind = \"http\"", ""), 1, "`kind` is missing"),
        (url("https://example.com/").replace("queues.a", "queues.pull"), 1, "`pull` is built in"),
        (url("https://example.com/").replace("queues.a", "queues.'Á b'"), 1, "not a name for a routing queue"),
        ("[routing_queues]\na = 1".to_owned(), 2, "`a` must be a table"),
        ("routing_queues = []".to_owned(), 1, "must be a table of tables"),
    ];
    let cases: Vec<_> = cases.iter().map(|(text, line, part)| (text.as_str(), *line, *part)).collect();
    each_has_one_fault("streamgate.toml", &cases, with_main);

    for good in [
        url("https://example.com/in?a=b"),
        url("https://8.8.8.8/"),
        queue("url = \"http://10.1.2.3/\"\nallow_networks = [\"10.1.0.0/16\"]"),
        queue("url = \"http://[::ffff:10.1.2.3]/\"\nallow_networks = [\"10.1.0.0/16\"]"),
        queue("url = \"http://127.1:9090/\"\nallow_networks = [\"127.0.0.1\"]"),
        queue("url = \"http://localhost:9090/\"\nallow_networks = [\"::1/128\"]"),
    ] {
        assert_eq!(with_main(&good).faults(), [""; 0], "{good}");
    }
}

#[test]
fn of_credentials() {
    const HASH: &str = "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5";
    let key = format!(
        "[[api_keys]]\nname = \"a\"\nsha256 = \"{HASH}\"\npermissions = [\"admin\"]\norganizations = [\"contoso\"]\n"
    );
    let issuer = "[[issuers]]\nname = \"a\"\nissuer = \"https://i.example/\"\njwks_url = \"https://i.example/keys\"\n\
                  algorithms = [\"RS256\"]\naudiences = [\"a\"]\npermissions = [\"admin\"]\norganizations = \"*\"\n";
    let cases = [
        (key.replace("[\"contoso\"]", "[\"contosso\"]"), 5, "there is no organization `contosso`"),
        (key.replace("[\"contoso\"]", "[\"0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a11\"]"), 5, "there is no organization"),
        (key.replace("[\"contoso\"]", "[]"), 5, "`organizations` is empty"),
        (key.replace("[\"contoso\"]", "[\"*\"]"), 5, "stands alone"),
        (key.replace("[\"contoso\"]", "\"contoso\""), 5, "must be \"*\" or a list"),
        (key.replace("[\"contoso\"]", "[1]"), 5, "must be a list of strings"),
        (key.replace("\"admin\"", "\"record.write\""), 4, "cannot be `record.write`"),
        (key.replace("[\"admin\"]", "[]"), 4, "`permissions` is empty"),
        (key.replace("permissions = [\"admin\"]", ""), 1, "`permissions` is missing in [[api_keys]]"),
        (key.replace(HASH, "sg_secret"), 3, "must be 64 hex digits"),
        (key.replace(&HASH[..4], "zzzz"), 3, "must be 64 hex digits"),
        (key.replace(HASH, "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"), 3, "empty key"),
        (format!("{key}expires = \"soon\""), 6, "`soon` is not a moment"),
        (format!("{key}expires = 2027-01-01"), 6, "is not a moment"),
        (format!("{key}expires = 2027-01-01T00:00:00"), 6, "is not a moment"),
        (format!("{key}expires = 1"), 6, "must be a moment"),
        (format!("{key}{}", key.replace(&HASH[..5], "00000")), 7, "`a` is there twice"),
        (format!("{key}{}", key.replace("\"a\"", "\"b\"")), 8, "is there twice"),
        (key.replace("[[api_keys]]", "[api_keys]"), 1, "must be a list of tables"),
        (issuer.replace("audiences = [\"a\"]", ""), 1, "`audiences` is missing"),
        (issuer.replace("audiences = [\"a\"]", "audiences = []"), 6, "`audiences` is empty"),
        (issuer.replace("[\"RS256\"]", "[]"), 5, "`algorithms` is empty"),
        (issuer.replace("\"RS256\"", "\"HS256\""), 5, "cannot be `HS256`"),
        (issuer.replace("\"RS256\"", "\"none\""), 5, "cannot be `none`"),
        (issuer.replace("https://i.example/keys", "http://i.example/keys"), 4, "must be https"),
        (issuer.replace("https://i.example/keys", "file:///keys"), 4, "must be https"),
        (issuer.replace("https://i.example/keys", "https://a:b@i.example/keys"), 4, "a user name"),
        (issuer.replace("https://i.example/keys", "keys"), 4, "is not a URL"),
        (issuer.replace("\"https://i.example/\"", "\"\""), 3, "`issuer` is empty"),
        (format!("{issuer}tenant = \"x\""), 9, "is not a GUID"),
        (format!("{issuer}tenant = \"0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10\""), 9, "does not name the tenant"),
        (format!("{issuer}max_lifetime_hours = 29"), 9, "between 0.01 and 28"),
        (format!("{issuer}{}", issuer.replace("\"a\"\ni", "\"b\"\ni")), 11, "`https://i.example/` is there twice"),
    ];
    let cases: Vec<_> = cases.iter().map(|(text, line, part)| (text.as_str(), *line, *part)).collect();
    each_has_one_fault("streamgate.toml", &cases, with_main);

    let open = format!("listen = \"0.0.0.0:1\"\n{key}");
    for good in [
        open,
        issuer.replace("https://i.example/keys", "http://[::1]:1/"),
        format!("{key}{issuer}").replacen("\"a\"", "\"b\"", 1),
    ] {
        assert_eq!(with_main(&good).faults(), [""; 0], "{good}");
    }
}

#[test]
fn of_an_organization() {
    let one = |text: &str| Files::new("", &[("contoso.toml", text)]);
    let id = CONTOSO.lines().nth(1).expect("the ID");
    let cases = [
        (String::new(), 1, "`organization` is missing in an organization's file"),
        (CONTOSO.replace(id, ""), 1, "`id` is missing in [organization]"),
        (CONTOSO.replace("0f3b", "0f3"), 2, "is not a GUID"),
        (CONTOSO.replace("contoso", "con toso"), 3, "is not a unique name"),
        (CONTOSO.replace("contoso", "-contoso"), 3, "is not a unique name"),
        (CONTOSO.replace("contoso", &"c".repeat(64)), 3, "is not a unique name"),
        (CONTOSO.replace("contoso", "0f3b1c526d1e4a0b9a4e3c1d7b8f2a10"), 3, "must not be a GUID"),
        (format!("{CONTOSO}name = \"\""), 4, "`name` is empty"),
        (format!("{CONTOSO}name = \"a\\u0007\""), 4, "control characters"),
        (format!("{CONTOSO}routing_queue = \"pul\""), 4, "there is no routing queue `pul`"),
        (format!("{CONTOSO}burst = 0"), 4, "`burst` must be between"),
        (format!("{CONTOSO}[organization]"), 4, "duplicate key"),
        (format!("{CONTOSO}[[queue]]"), 4, "unknown key `queue`"),
    ];
    let cases: Vec<_> = cases.iter().map(|(text, line, part)| (text.as_str(), *line, *part)).collect();
    each_has_one_fault("organizations/contoso.toml", &cases, one);

    each_has_one_fault(
        "organizations/contoso.toml",
        &[
            ("[[queues]]\nname = \"a\"", 4, "no queue is the default"),
            ("[[queues]]\nname = \"a\"\ndefault = false", 6, "no queue is the default"),
            ("[[queues]]\ndefault = true", 4, "`name` is missing in [[queues]]"),
            (
                "[[queues]]\nname = \"a\"\ndefault = true\n[[queues]]\nname = \"b\"\ndefault = true",
                9,
                "a second default",
            ),
            ("[[queues]]\nname = \"a\"\ndefault = true\n[[queues]]\nname = \"a\"", 8, "`a` is there twice"),
            ("[[queues]]\nname = \"a\"\ndefault = true\npriority = 0", 7, "`priority` must be between"),
            ("[[queues]]\nname = \"a\"\ndefault = 1", 6, "must be true or false"),
            ("[queues]\nname = \"a\"", 4, "must be a list of tables"),
        ],
        with_rest_of_organization,
    );
}

#[test]
fn of_a_work_stream() {
    const STREAM: &str = "[[work_streams]]\nid = \"7c2e9d54-41a8-ea11-a812-000d3a579c31\"\nname = \"Cases\"\n";
    const ENTITY: &str = "[[work_streams.entities]]\nid = \"c6d0a4f2-8b1e-4f3c-a5d7-2e9b0c1f4a61\"\n\
                          entity_logical_name = \"incident\"\nentity_set_name = \"incidents\"\n";
    const VARIABLE: &str = "[[work_streams.context_variables]]\ndisplay_name = \"Order number\"\n";
    let stream = |lines: &str| format!("{STREAM}{lines}");
    let cases = [
        (STREAM.replace("name = \"Cases\"", ""), 4, "`name` is missing in [[work_streams]]"),
        (STREAM.replace("7c2e9d54", "7c2e9d5x"), 5, "is not a GUID"),
        (format!("{STREAM}{STREAM}"), 8, "7c2e9d54-41a8-ea11-a812-000d3a579c31` is there twice"),
        (stream("capacity = 0"), 7, "`capacity` must be between"),
        (stream("stream_source = \"chat\""), 7, "`stream_source` cannot be `chat`"),
        (stream("distribution_mode = \"pull\""), 7, "cannot be `pull`"),
        (stream("notification = \"none\""), 7, "cannot be `none`"),
        (stream("screen_pop_timeout_seconds = 45"), 7, "steps of 30"),
        (stream("screen_pop_timeout_seconds = 330"), 7, "between 30 and 300"),
        (stream("allowed_presences = []"), 7, "no agent could ever get the work"),
        (stream("allowed_presences = [\"available\", \"bussy\"]"), 7, "cannot be `bussy`"),
        (stream("stream_source = \"live-chat\"\nallowed_presences = [\"offline\"]"), 8, "cannot hold `offline`"),
        (stream("routing_queue = \"x\""), 7, "there is no routing queue `x`"),
        (stream("state = \"on\""), 7, "`state` cannot be `on`"),
        (stream(&VARIABLE.replace("Order number", "Номер")), 8, "no name can be made"),
        (stream(&format!("{VARIABLE}kind = \"date\"")), 9, "`kind` cannot be `date`"),
        (stream(&format!("{VARIABLE}name = \"1st\"")), 9, "starts with a letter"),
        (stream(&format!("{VARIABLE}{VARIABLE}")), 10, "`order_number` is there twice"),
        (stream(&ENTITY.replace("entity_set_name = \"incidents\"\n", "")), 7, "`entity_set_name` is missing"),
        (stream(&ENTITY.replace("\"incident\"", "\"in cident\"")), 9, "`in cident` may hold only letters"),
        (stream(&ENTITY.replace("incidents", "")), 10, "is empty"),
        (stream(&format!("{ENTITY}relationship_name = \"a-b\"")), 11, "may hold only letters"),
        (stream(&format!("{ENTITY}{}", ENTITY.replace("\"incident\"", "\"lead\""))), 12, "c6d0a4f2-8b1e-4f3c"),
        (
            stream(&format!("{ENTITY}{}", ENTITY.replace("c6d0", "c6d1").replace("\"incident\"", "\"Incident\""))),
            13,
            "is there twice",
        ),
    ];
    let cases: Vec<_> = cases.iter().map(|(text, line, part)| (text.as_str(), *line, *part)).collect();
    each_has_one_fault("organizations/contoso.toml", &cases, with_rest_of_organization);
}

#[test]
fn over_several_files_all_come_at_once() {
    let copy = CONTOSO.replace("contoso", "CONTOSO");
    let broken = "[organization\n";
    let files = Files::new(
        "lisen = 1\n[limits]\nburst = 0\n[[api_keys]]\norganizations = [\"unheard-of\"]\n",
        &[("a.toml", CONTOSO), ("b.toml", &copy), ("c.toml", broken), (".hidden.toml", broken)],
    );
    let found = files.faults();
    let places: Vec<_> = found.iter().filter_map(|fault| fault.split(": ").next()).collect();
    assert_eq!(
        places,
        [
            "organizations/b.toml:2",
            "organizations/b.toml:3",
            "organizations/c.toml:1",
            "streamgate.toml:1",
            "streamgate.toml:3",
            "streamgate.toml:4",
            "streamgate.toml:4",
            "streamgate.toml:4",
        ],
        "{found:#?}"
    );
    let faults = files.load().expect_err("faults");
    assert_eq!(faults.summary(), "8 faults in 3 files");
    assert!(faults.to_string().contains("hint: the first one is at "), "{faults}");
}

#[test]
fn a_main_file_that_cannot_be_read_brings_no_echoes() {
    let files = Files::new("listen = [", &[("contoso.toml", &format!("{CONTOSO}routing_queue = \"crm\"\nburst = 0"))]);
    let found = files.faults();
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("`burst`") && found[1].contains("not valid TOML"), "{found:#?}");

    std::fs::remove_file(files.path("streamgate.toml")).expect("removed");
    assert!(files.faults().iter().any(|fault| fault.starts_with("streamgate.toml:0: cannot be read")));
}

#[test]
fn of_files_and_folders() {
    let files = Files::new("", &[]);
    let warnings = files.load().expect("no organization is no fault").warnings;
    assert!(files.short(&warnings[0]).contains("there is no organization"));

    files.write("organizations/large.toml", &"#".repeat(8 * 1024 * 1024 + 1));
    std::fs::create_dir(files.path("organizations/folder.toml")).expect("made");
    std::os::unix::fs::symlink(files.path("nowhere"), files.path("organizations/link.toml")).expect("made");
    let found = files.faults();
    for (fault, part) in found.iter().zip(["not a regular file", "larger than", "cannot be read"]) {
        // By name: folder, large, link.
        assert!(fault.contains(part), "{found:#?}");
    }
    assert_eq!(found.len(), 3);

    std::fs::remove_dir_all(files.path("organizations")).expect("removed");
    assert!(files.faults()[0].contains("organizations cannot be read"), "a folder that went away is a fault");
}

#[test]
fn of_routing_queues_of_kind_nats() {
    let queue = |lines: &str| format!("[routing_queues.a]\nkind = \"nats\"\nstream = \"S\"\n{lines}");
    let with = |lines: &str| queue(&format!("servers = [\"nats://127.0.0.1\"]\n{lines}"));
    let at = |server: &str| queue(&format!("servers = [\"{server}\"]"));
    let cases = [
        (queue(""), 1, "`servers` is missing in [routing_queues.…]"),
        (queue("servers = []"), 4, "`servers` is empty"),
        (with("").replace("stream = \"S\"", ""), 1, "`stream` is missing"),
        (with("").replace("\"S\"", "\"S.*\""), 3, "is not a name for a stream"),
        (with("").replace("\"S\"", "\"\""), 3, "is not a name for a stream"),
        (at("nats.example.com"), 4, "is not a URL"),
        (at("https://nats.example.com"), 4, "tls://… or nats://…, not https"),
        (at("tls://user:word@nats.example.com"), 4, "a user name, a password or a token"),
        (at("tls://token@nats.example.com"), 4, "a user name, a password or a token"),
        (at("tls://nats.example.com/a"), 4, "nothing behind it"),
        (at("nats://10.1.2.3"), 4, "in the clear"),
        (at("nats://nats.example.com:4222"), 4, "in the clear"),
        (queue("servers = [\"tls://a.example.com\", \"nats://127.0.0.1\"]"), 4, "some are not"),
        (with("subject = \"a.{org}\""), 5, "`subject`: `a.{org}` has a token"),
        (with("subject = \"a.>\""), 5, "has a token `>`"),
        (with("subject = \"$JS.a\""), 5, "has a token `$JS`"),
        (with("replicas = 0"), 5, "`replicas` must be between"),
        (with("url = \"https://example.com/\""), 5, "`url` is for routing queues of kind `http`"),
        (with("batch_max_events = 2"), 5, "`batch_max_events` is for routing queues of kind `http`"),
        (with("new_stream_retention = \"workqueue\""), 5, "does nothing"),
        (with("create_stream = true\nnew_stream_retention = \"interest\""), 6, "cannot be `interest`"),
        (with("monitoring_url = \"ftp://127.0.0.1/\""), 5, "must be http or https"),
        (with("monitoring_url = \"http://a:b@127.0.0.1/\""), 5, "leave it out"),
        (with("user = \"u\""), 5, "`user` has no password"),
        (with("password_env = \"SECRET\""), 1, "`user` is missing"),
        (with("token_env = \"OTHER\""), 5, "`OTHER` is not set"),
        (with("token_file = \"none\""), 5, "cannot be read"),
        (with("token_env = \"SECRET\"\nnkey_seed_env = \"SECRET\""), 6, "there is a token too"),
        (with("nkey_seed_env = \"SECRET\""), 5, "not the seed of a user's NKey"),
        (with("credentials_env = \"SECRET\""), 5, "are not NATS credentials"),
        (with("tls_authorities_file = \"none.pem\""), 5, "cannot be read"),
        (with("tls_authorities_file = \"streamgate.toml\""), 5, "holds no certificates of authorities"),
        (with("tls_certificate_file = \"none.pem\""), 5, "without its private key"),
        (with("tls_private_key_env = \"SECRET\""), 1, "without its certificate"),
    ];
    let cases: Vec<_> = cases.iter().map(|(text, line, part)| (text.as_str(), *line, *part)).collect();
    each_has_one_fault("streamgate.toml", &cases, with_main);

    for good in [
        with(""),
        at("nats://[::1]:4222"),
        at("tls://nats.example.com"),
        queue("servers = [\"nats://10.1.2.3\"]\nallow_clear_text = true"),
        with("user = \"u\"\npassword_env = \"SECRET\""),
    ] {
        assert_eq!(with_main(&good).faults(), [] as [&str; 0], "{good}");
    }
    let files = with_main(&with("token_env = \"SECRET\""));
    let config = files.load().expect("no fault");
    assert!(!format!("{:?}", config.effective.routing_queues).contains("whsec_"), "a secret is never shown");
}

#[test]
fn of_secret_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let queue = "[routing_queues.a]\nkind = \"http\"\nurl = \"https://example.com/\"\nsecret_file = \"a.secret\"\n";
    let files = with_main(queue);
    assert!(files.faults()[0].starts_with("streamgate.toml:4: the secret file"));
    assert!(!files.path("data").exists(), "a look at the configuration creates nothing");

    files.write("streamgate.toml", &format!("{queue}create_secret = true\n[limits]\nburst = 0"));
    assert_eq!(files.faults().len(), 1);
    assert!(!files.path("data").exists(), "a configuration with a fault creates nothing");

    files.write("streamgate.toml", &format!("{queue}create_secret = true"));
    let looking = Overrides { read_only: true, ..files.overrides() };
    assert!(files.attempt(&looking).outcome.is_ok());
    assert!(!files.path("data").exists(), "whoever only looks creates nothing");

    let secrets = |config: Config| -> Vec<_> {
        let queues = config.effective.routing_queues.values().filter_map(|queue| queue.http());
        queues.flat_map(|queue| queue.secrets.clone()).collect()
    };
    let created = secrets(files.load().expect("created"));
    assert_eq!(created, secrets(files.load().expect("found")), "made once");
    let path = files.path("data/a.secret");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("opened");
    assert!(files.faults()[0].contains("others may read"), "{:?}", files.faults());
    for (text, part) in
        [("", "is empty"), ("\n", "is empty"), ("whsec_short", "Standard Webhooks"), ("secret", "whsec_")]
    {
        files.write("data/a.secret", text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("closed");
        let found = files.faults();
        assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
        assert!(text.trim().is_empty() || !found[0].contains(text) || text == "secret", "a secret is never shown");
    }
}

#[test]
fn a_previous_secret_that_others_can_read_is_a_warning() {
    let files = with_main(
        "[routing_queues.a]\nkind = \"http\"\nurl = \"https://example.com/\"\nsecret_env = \"SECRET\"\n\
         previous_secret_file = \"old.secret\"\n",
    );
    std::fs::create_dir(files.path("data")).expect("made");
    files.write("data/old.secret", &format!("whsec_{}", "QkJC".repeat(8)));
    let config = files.load().expect("no fault");
    let queue = config.effective.routing_queues.values().find_map(|queue| queue.http());
    assert_eq!(queue.map(|queue| queue.secrets.len()), Some(2));
    assert!(files.short(&config.warnings[0]).starts_with("streamgate.toml:5: others may read"));
}
