//! Callers, their keys and configurations: what tests hold already, repeats of one record, and an organization that takes
//! too much.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Fallible;
use crate::client::Client;
use crate::load::{Load, percentile};
use crate::scenario::{Findings, How, Run, Scenario};
use crate::world::{Configuration, Tenant, World, details, record};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        id: "J1",
        what: "an issuer's keys cannot be fetched at the start",
        required: "API keys work; tokens are 503 until there are keys",
        needs: &[],
        how: How::Held(&[
            "tests/it/catalogue/tokens.rs::without_keys_tokens_wait_and_api_keys_go_on",
            "src/http/keys/tests/rotation.rs::an_issuer_that_is_down_at_the_start_is_tried_again_until_it_is_up",
            "src/http/keys/tests/rotation.rs::api_keys_need_no_issuer",
        ]),
    },
    Scenario {
        id: "J2",
        what: "an issuer goes down later",
        required: "its last good keys count for 24 hours",
        needs: &[],
        how: How::Held(&[
            "src/http/keys/tests/rotation.rs::the_last_good_keys_are_kept_for_a_day",
            "src/http/keys/tests/rotation.rs::keys_that_are_too_old_judge_nothing",
        ]),
    },
    Scenario {
        id: "J3",
        what: "an issuer's key is replaced, or withdrawn",
        required: "the new one counts after one fetch, the old one ends with it",
        needs: &[],
        how: How::Held(&[
            "src/http/keys/tests/rotation.rs::a_withdrawn_key_is_refused_after_the_next_fetch",
            "src/http/keys/tests/rotation.rs::an_unknown_key_is_looked_for",
        ]),
    },
    Scenario {
        id: "J4",
        what: "a flood of tokens with unknown keys",
        required: "one fetch in five minutes; good tokens notice nothing",
        needs: &[],
        how: How::Held(&[
            "src/http/keys/tests/rotation.rs::a_flood_of_unknown_keys_causes_one_fetch",
            "src/http/keys/tests/rotation.rs::an_unknown_key_is_looked_for_once",
        ]),
    },
    Scenario {
        id: "J5",
        what: "hostile key documents: huge, endless, slow, weak keys, none",
        required: "bounded; a bad key is skipped; keys that work are never emptied",
        needs: &[],
        how: How::Held(&[
            "src/http/keys/tests/documents.rs::a_hostile_answer_is_a_failed_fetch",
            "src/http/keys/tests/documents.rs::an_answer_without_end_is_cut_off",
            "src/http/keys/tests/documents.rs::an_answer_that_does_not_come_is_given_up",
            "src/http/keys/tests/documents.rs::a_bad_key_is_skipped_and_never_empties_the_set",
        ]),
    },
    Scenario {
        id: "G1",
        what: "a faulty configuration is reloaded",
        required: "the last good one stays, the fault is named, no 404 in between",
        needs: &[],
        how: How::Held(&[
            "tests/it/lifecycle.rs::g1_a_bad_change_keeps_the_last_good_configuration_and_says_where",
            "src/config/tests/live.rs::folders_and_files_that_go_away_do_not_empty_the_catalog",
            "src/config/watch/tests.rs::a_swapped_link_is_effective",
        ]),
    },
    Scenario {
        id: "G2",
        what: "reloads under load",
        required: "each request sees one whole configuration",
        needs: &[],
        how: How::Held(&[
            "tests/it/lifecycle.rs::g2_reloads_under_load_never_tear_a_request",
            "src/config/tests/live.rs::readers_see_one_whole_version_during_reloads",
        ]),
    },
    Scenario {
        id: "R6",
        what: "each record is sent one to eight times, at once, over a kill and with other details",
        required: "one record and one receipt each; the first details count",
        needs: &[],
        how: How::Run(repeats),
    },
    Scenario {
        id: "R8",
        what: "one organization sends ten times its rate",
        required: "it gets 429, and others notice nothing",
        needs: &[],
        how: How::Run(noisy),
    },
];

fn repeats(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    let mut chance = run.chance();
    let world = World::new(run, &Configuration::default())?;
    let records = u64::try_from(run.times(200, 5_000))?;
    let receipts: Mutex<BTreeMap<u64, BTreeSet<String>>> = Mutex::default();
    let mut sent = 0;
    for life in 0..3 {
        let gateway = world.start().up()?;
        // Who sends what, in an order of its own for each client.
        let mut plan: Vec<u64> = (1..=records)
            .flat_map(|number| std::iter::repeat_n(number, usize::try_from(chance.between(1, 4)).unwrap_or(1)))
            .collect();
        for at in (1..plan.len()).rev() {
            plan.swap(at, usize::try_from(chance.between(0, u64::try_from(at)? + 1))?);
        }
        sent += plan.len();
        std::thread::scope(|scope| {
            for part in plan.chunks(plan.len().div_ceil(8)) {
                let (receipts, gateway) = (&receipts, &gateway);
                scope.spawn(move || {
                    let mut client = Client::patient(gateway.public);
                    for number in part {
                        // In later lives some come with other details: the first ones stay.
                        let body = if life > 0 && number % 3 == 0 {
                            record(Tenant::Contoso, *number, 7)
                        } else {
                            record(Tenant::Contoso, *number, 0)
                        };
                        let Ok(answer) = client.post(&body) else { continue };
                        if answer.status == 202 {
                            let mut receipts = receipts.lock().unwrap_or_else(PoisonError::into_inner);
                            receipts.entry(*number).or_default().insert(answer.text("receiptId"));
                        }
                    }
                });
            }
        });
        gateway.kill()?;
    }
    let gateway = world.start().up()?;
    let receipts = receipts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let several = receipts.values().filter(|receipts| receipts.len() > 1).count();
    let stored = gateway.metric("streamgate_store_high_water_mark")?;
    let expected = f64::from(u32::try_from(records)?);
    findings.require(several == 0, || format!("{several} records have more than one receipt"));
    findings.require((stored - expected).abs() < 0.5, || format!("{records} records were sent, {stored} are stored"));
    let changed = receipts.iter().filter(|(number, _)| *number % 3 == 0).filter(|(number, receipts)| {
        let receipt = receipts.iter().next().map_or("", String::as_str);
        let path = format!("/admin/v1/records/{receipt}?details=true");
        let answer = Client::patient(gateway.admin).get(&path).map(|answer| answer.body).unwrap_or_default();
        !String::from_utf8_lossy(&answer).contains(&details(**number, 0))
    });
    let changed = changed.count();
    findings.require(changed == 0, || format!("{changed} records have the details of a repeat"));
    findings.figure(format!("{sent} requests over three lives: {stored:.0} records stored, {records} distinct"));
    findings.runs = sent;
    Ok(findings)
}

fn noisy(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let configuration = Configuration { contoso_rate: Some(60), ..Configuration::default() };
    let world = World::new(run, &configuration)?;
    let gateway = world.start().up()?;
    let seconds = u64::try_from(run.times(1, 10))?;
    // The noisy one's requests have their own pace, ten times its rate, and do not simply take every moment that two cores
    // have: how it is refused is looked at here, not what its client costs on the same machine.
    let noise = |clients, rest_ms| {
        let mut load = Load::new(&world, gateway.public, clients);
        load.rest = Duration::from_millis(rest_ms);
        load
    };
    let other = || {
        let mut load = Load::new(&world, gateway.public, 1);
        (load.tenant, load.rest) = (Tenant::Fabrikam, Duration::from_millis(5));
        let (_, tally) = load.during(|_| std::thread::sleep(Duration::from_secs(seconds)));
        (percentile(&tally.times(), 0.99), tally.count(202) == tally.outcomes().len())
    };
    let (mut usual, mut beside) = (Vec::new(), Vec::new());
    let (mut refused, mut undisturbed) = (0, true);
    for _ in 0..5 {
        // Within its rate, what it sends is accepted and takes its turns at the disk.
        let ((time, good), _) = noise(1, 20).during(|_| other());
        usual.push(time);
        undisturbed &= good;
        let ((time, good), loud) = noise(4, 6).during(|_| other());
        beside.push(time);
        undisturbed &= good;
        refused += loud.count(429);
    }
    let (usual, beside) = (percentile(&usual, 0.5), percentile(&beside, 0.5));
    let ratio = beside.as_secs_f64() / usual.as_secs_f64().max(1e-6);
    findings.figure(format!(
        "the other's accept p99 {:.1} ms beside one within its rate, {:.1} ms beside ten times of it: {ratio:.2} times (median of 5)",
        usual.as_secs_f64() * 1e3,
        beside.as_secs_f64() * 1e3
    ));
    findings.require(undisturbed, || "the other organization got something else than 202".to_owned());
    findings.require(ratio < 5.0 || beside < Duration::from_millis(100), || format!("{ratio:.1} times as slow"));
    findings.control(format!("{refused} answers 429 to the noisy one"), refused > 0);
    findings.runs = 10;
    Ok(findings)
}
