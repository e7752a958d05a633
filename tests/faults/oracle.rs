//! The judge: what was promised, against what the gateway says of it and what the receiver has.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::Fallible;
use crate::client::Client;
use crate::ledger::{Ledger, Promise};
use crate::receiver::Receiver;
use crate::scenario::Findings;
use crate::world::details;

/// Questions are asked on so many connections.
const ASKING: usize = 4;

/// Where the promised records stand.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) promised: usize,
    /// Promised and unknown: lost.
    pub(crate) missing: Vec<Promise>,
    /// Delivered according to the gateway, and the receiver never had them: lost, too.
    pub(crate) claimed: Vec<Promise>,
    /// How many are in each state.
    pub(crate) states: BTreeMap<String, usize>,
}

impl Account {
    /// How many promises were broken.
    pub(crate) fn lost(&self) -> usize {
        self.missing.len() + self.claimed.len()
    }

    /// Nothing may be lost.
    pub(crate) fn judge(&self, findings: &mut Findings) {
        let example = self.missing.iter().chain(&self.claimed).next();
        findings.require(self.lost() == 0, || {
            let Self { promised, missing, claimed, .. } = self;
            let (missing, claimed) = (missing.len(), claimed.len());
            format!(
                "of {promised} promised records {missing} are unknown and {claimed} were never received: {example:?}"
            )
        });
    }

    /// The figures in words.
    pub(crate) fn words(&self) -> String {
        let states: Vec<String> = self.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        format!("lost {} of {} promised ({})", self.lost(), self.promised, states.join(", "))
    }
}

/// Asks for every promised record.
pub(crate) fn account(to: SocketAddr, promises: &[Promise], receiver: Option<&Receiver>) -> Fallible<Account> {
    let share = promises.len().div_ceil(ASKING).max(1);
    let answers: Vec<Fallible<Vec<(Promise, String)>>> = std::thread::scope(|scope| {
        let askers: Vec<_> = promises.chunks(share).map(|part| scope.spawn(move || states(to, part))).collect();
        askers.into_iter().map(|asker| asker.join().unwrap_or_else(|_| Err("asking panicked".into()))).collect()
    });
    let mut account = Account { promised: promises.len(), ..Account::default() };
    // Asked for afterwards: what is delivered by now has been received before.
    let taken = receiver.map(Receiver::taken);
    for answers in answers {
        for (promise, state) in answers? {
            match state.as_str() {
                "accepted" | "delivering" | "dead-lettered" => {}
                "delivered" => {
                    if taken.as_ref().is_some_and(|taken| !taken.contains(&promise.receipt)) {
                        account.claimed.push(promise);
                    }
                }
                _ => account.missing.push(promise),
            }
            *account.states.entry(state).or_default() += 1;
        }
    }
    Ok(account)
}

/// The same for all promises of a ledger.
pub(crate) fn account_of(to: SocketAddr, ledger: &Ledger, receiver: Option<&Receiver>) -> Fallible<Account> {
    account(to, &ledger.all(), receiver)
}

fn states(to: SocketAddr, promises: &[Promise]) -> Fallible<Vec<(Promise, String)>> {
    let mut client = Client::patient(to);
    let mut found = Vec::with_capacity(promises.len());
    for promise in promises {
        let answer = client.get(&format!("/api/v1/receipts/{}", promise.receipt))?;
        let state = match answer.status {
            200 => answer.text("state"),
            404 => "unknown".to_owned(),
            other => return Err(format!("a receipt is answered with {other}").into()),
        };
        found.push((promise.clone(), state));
    }
    Ok(found)
}

/// Looks at every record that is stored, promised or not: none may be half a record. Answers how many there are.
pub(crate) fn whole_records(admin: SocketAddr, padding: usize) -> Fallible<Result<usize, String>> {
    let mut client = Client::patient(admin);
    let (mut seen, mut next) = (0, String::new());
    loop {
        let page = client.get(&format!("/admin/v1/records?limit=500{next}"))?.json();
        for item in page["value"].as_array().into_iter().flatten() {
            let (receipt, id) = (&item["receiptId"], &item["recordId"]);
            let whole =
                client.get(&format!("/admin/v1/records/{}?details=true", receipt.as_str().unwrap_or_default()))?;
            let text = String::from_utf8_lossy(&whole.body).into_owned();
            let number = id.as_str().and_then(|id| u64::from_str_radix(id.rsplit('-').next()?, 16).ok());
            let expected = details(number.ok_or("a record ID that was never sent")?, padding);
            if whole.status != 200 || !text.contains(&expected) {
                return Ok(Err(format!("record {id} is not what was sent: {}", &text[..text.len().min(300)])));
            }
            seen += 1;
        }
        match page["next"].as_i64() {
            Some(before) => next = format!("&before={before}"),
            None => return Ok(Ok(seen)),
        }
    }
}
