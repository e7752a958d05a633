//! Why a request is not let in: one answer for the caller, the real cause for the log.

use std::sync::Arc;

/// Why there is no caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// More than one credential: nobody could say which one counts (400).
    #[error("{message}")]
    Ambiguous {
        /// What was given twice, for the caller.
        message: &'static str,
    },
    /// No valid credential (401). The answer must be the same for every cause.
    #[error("not authenticated: {cause}")]
    Unauthorized {
        /// For the log only.
        cause: Cause,
    },
    /// The token cannot be judged, because its issuer's keys were never fetched or are too old. Time heals it (503).
    #[error("the keys of the token issuer `{issuer}` are not available")]
    KeysUnavailable {
        /// The name of the issuer in the configuration.
        issuer: Arc<str>,
    },
}

/// What was wrong with the credential, for the log. Holds nothing that the caller chose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Neither header was there.
    #[error("no credential")]
    Missing,
    /// Empty, too long, or with characters that no key has.
    #[error("the API key has a form that no key has")]
    ApiKeyMalformed,
    /// No configured key has this hash.
    #[error("the API key is not configured")]
    ApiKeyUnknown,
    /// It was right once.
    #[error("the API key `{name}` has expired")]
    ApiKeyExpired {
        /// The name of the key in the configuration.
        name: Arc<str>,
    },
    /// `Authorization` is not `Bearer`, one blank and a token.
    #[error("`Authorization` is not a bearer token")]
    NotBearer,
    /// A bearer token that does not meet the profile. As long as the fault is not about the key or the signature, it
    /// speaks of what the token *says*; nobody has verified that its issuer said so.
    #[error("bearer token{}: {fault}", of(issuer.as_ref()))]
    Token {
        /// The name of the issuer in the configuration, once the token's `iss` named one.
        issuer: Option<Arc<str>>,
        /// What is wrong with it.
        fault: TokenFault,
    },
}

fn of(issuer: Option<&Arc<str>>) -> String {
    issuer.map(|name| format!(" of `{name}`")).unwrap_or_default()
}

impl Cause {
    /// A word for a metric: one of a handful, whatever callers send.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::ApiKeyMalformed => "api-key-malformed",
            Self::ApiKeyUnknown => "api-key-unknown",
            Self::ApiKeyExpired { .. } => "api-key-expired",
            Self::NotBearer => "not-bearer",
            Self::Token { .. } => "token-refused",
        }
    }
}

impl From<Cause> for AuthError {
    fn from(cause: Cause) -> Self {
        Self::Unauthorized { cause }
    }
}

/// How a bearer token misses the profile of `docs/contract.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Longer than the limit.
    #[error("is longer than {} bytes", super::token::MAX_TOKEN_BYTES)]
    TooLong,
    /// Not `header.claims.signature`: an unsecured, an encrypted or a broken token.
    #[error("has not exactly three parts")]
    NotThreeParts,
    /// A part that is not base64url of one JSON object without repeated members.
    #[error("its {part} is not base64url of a JSON object with distinct members")]
    NotAnObject {
        /// `header` or `claims`.
        part: &'static str,
    },
    /// A header member that would let the token choose how it is verified.
    #[error("its header carries `{member}`")]
    HeaderMember {
        /// The member.
        member: &'static str,
    },
    /// Not the type of an access token.
    #[error("`typ` is not that of an access token")]
    Type,
    /// Signed with an algorithm that is not configured for the issuer, or that is not the key's.
    #[error("`alg` is not allowed")]
    Algorithm,
    /// No key ID, or one that none could be.
    #[error("`kid` is missing or malformed")]
    KeyId,
    /// A claim that is missing or has the wrong type.
    #[error("`{claim}` is missing or has the wrong type")]
    Claim {
        /// The claim.
        claim: &'static str,
    },
    /// Nobody configured this issuer.
    #[error("`iss` is not configured")]
    Issuer,
    /// Made for somebody else.
    #[error("`aud` is not ours")]
    Audience,
    /// Of another tenant.
    #[error("`tid` is not the issuer's tenant")]
    Tenant,
    /// Of another token version.
    #[error("`ver` is not the configured version")]
    Version,
    /// Ended.
    #[error("has expired")]
    Expired,
    /// Not valid yet.
    #[error("`nbf` lies in the future")]
    NotYetValid,
    /// Made in the future.
    #[error("`iat` lies in the future")]
    IssuedInFuture,
    /// Valid for longer than allowed, or ending before it was made.
    #[error("`exp` - `iat` is not an allowed lifetime")]
    Lifetime,
    /// An ID token says who signed in somewhere; it allows nothing here.
    #[error("is an ID token")]
    IdToken,
    /// Not one of the configured applications.
    #[error("`azp`/`appid` is not a configured client")]
    Client,
    /// A user's token where only applications may call.
    #[error("`idtyp` is not `app`")]
    NotAnApplication,
    /// Neither `roles` nor `scp` names a permission that the issuer may give.
    #[error("`roles`/`scp` give no permission")]
    NoPermission,
    /// The issuer has no such key.
    #[error("its key is not one of the issuer's")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the signature is wrong")]
    Signature,
}
