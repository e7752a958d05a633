//! The port to the other gateways on the same catalog: who is there, and which configuration each of them serves.
//!
//! A gateway says every second that it is there. One that has said nothing for [`GONE_AFTER`] is gone: it crashed, or cannot
//! reach the store, and then it accepts nothing either. Whether a gateway is gone is judged by the store's clock, so the
//! gateways' own may differ.

use std::time::Duration;

use super::StoreError;

/// How often a gateway says that it is there.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Whoever has said nothing for so long is gone.
pub const GONE_AFTER: Duration = Duration::from_secs(5);

/// What tells one start of a gateway from every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(pub [u8; 16]);

impl GatewayId {
    /// A random one.
    ///
    /// # Errors
    /// When the operating system gives no random bits.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(uuid::Builder::from_random_bytes(bytes).into_uuid().into_bytes()))
    }
}

impl std::fmt::Display for GatewayId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

/// What a gateway says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Which one.
    pub id: GatewayId,
    /// What people know it by: its host and port.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The generation that it serves.
    pub generation: u64,
    /// Made of what its files say; gateways whose files say the same have the same.
    pub files: String,
    /// Why it does not serve what is stored, if so.
    pub behind: Option<String>,
}

/// A gateway that is there, as another one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveGateway {
    /// What it said last.
    pub presence: Presence,
    /// How long ago that was.
    pub heard: Duration,
    /// How long it has been there.
    pub up: Duration,
}

/// The gateways that share a catalog. Every method blocks.
pub trait Gateways: Send + Sync {
    /// Says that this gateway is there. Answers the stored generation.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn beat(&self, own: &Presence) -> Result<u64, StoreError>;

    /// Every gateway that is there, by name.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn live(&self) -> Result<Vec<LiveGateway>, StoreError>;

    /// Takes this gateway's leave: nobody waits for it any more.
    ///
    /// # Errors
    /// When the store cannot be reached; then it is gone after [`GONE_AFTER`].
    fn leave(&self, id: GatewayId) -> Result<(), StoreError>;

    /// Has `wake` called whenever somebody has changed the catalog. A call may be missing, and one may be too many: whoever
    /// follows looks every second too.
    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>);
}
