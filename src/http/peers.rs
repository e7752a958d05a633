//! How many connections there are, in all and from each peer: a bound on what one of them can hold open. A peer is an
//! IPv4 address, or the /56 that one IPv6 subscriber has; by single addresses it could take every place.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;

use super::limits::neighbourhood;

/// Counts connections. One for all workers of a listener.
#[derive(Debug)]
pub struct Peers {
    max_connections: usize,
    max_per_peer: usize,
    total: AtomicUsize,
    per_peer: DashMap<IpAddr, usize>,
    turned_away: AtomicU64,
}

impl Peers {
    /// Admits up to `max_connections` in all and `max_per_peer` from one peer.
    pub fn new(max_connections: usize, max_per_peer: usize) -> Arc<Self> {
        Arc::new(Self {
            max_connections,
            max_per_peer,
            total: AtomicUsize::new(0),
            per_peer: DashMap::new(),
            turned_away: AtomicU64::new(0),
        })
    }

    /// A place for one more connection, held until the guard is dropped; `None` when there is none.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<PeerGuard> {
        let peer = neighbourhood(address);
        if self.total.fetch_add(1, Ordering::Relaxed) >= self.max_connections {
            self.total.fetch_sub(1, Ordering::Relaxed);
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let admitted = {
            let mut open = self.per_peer.entry(peer).or_insert(0);
            if *open < self.max_per_peer {
                *open += 1;
                true
            } else {
                false
            }
        };
        if !admitted {
            self.total.fetch_sub(1, Ordering::Relaxed);
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(PeerGuard { peers: Arc::clone(self), peer })
    }

    /// How many connections may be open.
    pub const fn limit(&self) -> usize {
        self.max_connections
    }

    /// How many found no place.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

/// One connection's place.
#[derive(Debug)]
pub struct PeerGuard {
    peers: Arc<Peers>,
    peer: IpAddr,
}

impl Drop for PeerGuard {
    fn drop(&mut self) {
        self.peers.total.fetch_sub(1, Ordering::Relaxed);
        if let Some(mut open) = self.peers.per_peer.get_mut(&self.peer) {
            *open = open.saturating_sub(1);
        }
        // An address without connections leaves nothing behind.
        self.peers.per_peer.remove_if(&self.peer, |_, open| *open == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let peers = Peers::new(3, 2);
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = peers.admit(one);
        let second = peers.admit(one);
        assert!(first.is_some() && second.is_some());
        assert!(peers.admit(one).is_none(), "a third from one peer");
        let third = peers.admit(other);
        assert!(third.is_some());
        assert!(peers.admit(other).is_none(), "a fourth in all");
        assert_eq!((peers.open(), peers.turned_away()), (3, 2));
        drop((first, second, third));
        assert_eq!(peers.open(), 0);
        assert!(peers.per_peer.is_empty());
    }

    #[test]
    fn the_addresses_of_one_ipv6_subscriber_are_one_peer() {
        let peers = Peers::new(10, 2);
        let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let held = [address("2001:db8::1"), address("2001:db8:0:ff::2")].map(|address| peers.admit(address));
        assert!(held.iter().all(Option::is_some));
        assert!(peers.admit(address("2001:db8:0:80::3")).is_none(), "a third from the same /56");
        assert!(peers.admit(address("2001:db8:0:100::1")).is_some(), "somebody else");
        drop(held);
        assert!(peers.per_peer.is_empty());
    }
}
