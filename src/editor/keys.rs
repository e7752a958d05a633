//! API keys that are made and revoked while the gateway runs.

use std::sync::Arc;

use super::{EditError, Editor, entry};
use crate::config::Effective;
use crate::config::settings::ApiKeySettings;
use crate::config::stored::{Document, Stored, StoredApiKey, StoredChange, check_api_key};
use crate::domain::access::{Caller, OrganizationScope};
use crate::domain::time::Timestamp;
use crate::store::catalog::{Action, Advance, CatalogChange, Difference};

/// A key that is to be made. Its text is made by the caller, who alone ever knows it.
#[derive(Debug)]
pub struct NewKey<'a> {
    /// Who makes it.
    pub who: &'a Caller,
    /// What it is to be worth, as submitted.
    pub request: Document,
    /// SHA-256 of its text.
    pub sha256: [u8; 32],
}

/// A key that counts from now on.
#[derive(Debug)]
pub struct KeyMade {
    /// What it is worth.
    pub key: StoredApiKey,
    /// The configuration that it counts in.
    pub generation: u64,
}

impl Editor {
    /// Makes a key count. Blocks on the disk.
    ///
    /// # Errors
    /// [`EditError`]; nothing has changed then.
    pub fn create_key(&self, new: NewKey<'_>) -> Result<KeyMade, EditError> {
        let (effective, key) = self.change(|before, generation| {
            let NewKey { who, ref request, sha256 } = new;
            let mut asked =
                check_api_key(before, who, request).map_err(|faults| EditError::Invalid(faults.into_vec()))?;
            asked.name = name_for(before, who, &asked.name)?;
            let of_all = asked.organizations == OrganizationScope::All && who.organizations != OrganizationScope::All;
            if of_all {
                let reason = "a credential can only give what it has: name its organizations";
                return Err(EditError::Locked { field: "organizations", reason });
            }
            let credentials = &before.credentials;
            let keys = credentials.api_keys.iter().chain(&credentials.stored_api_keys).map(|key| &key.name);
            if keys.chain(credentials.issuers.iter().map(|issuer| &issuer.name)).any(|name| *name == asked.name) {
                return Err(EditError::Exists { noun: "credential", identity: asked.name.to_string() });
            }
            let key = StoredApiKey {
                settings: ApiKeySettings {
                    name: Arc::clone(&asked.name),
                    sha256,
                    permissions: asked.permissions,
                    organizations: asked.organizations,
                    expires: asked.expires,
                },
                created_at: Timestamp::now(),
                created_by: Arc::clone(&who.credential),
            };
            let worth = Difference { path: "apiKey".to_owned(), from: None, to: Some(worth(&key)) };
            let change =
                self.commit_key(before, (&asked.name, Some(&key)), (who, Action::Create, worth, generation))?;
            Ok::<_, EditError>((Some(change), key))
        })?;
        Ok(KeyMade { key, generation: effective.catalog.generation() })
    }

    /// Makes a key count no more. Answers the generation.
    ///
    /// # Errors
    /// [`EditError`]; nothing has changed then.
    pub fn revoke_key(&self, who: &Caller, name: &str) -> Result<u64, EditError> {
        let (effective, ()) = self.change(|before, generation| {
            let known = before.layers.stored.api_keys.get(name).filter(|key| who.covers(&key.settings.organizations));
            let Some(key) = known else {
                let in_files =
                    before.credentials.api_keys.iter().any(|key| *key.name == *name && who.covers(&key.organizations));
                return Err(if in_files {
                    EditError::Provisioned("the configuration file".to_owned())
                } else {
                    EditError::Unknown("API key")
                });
            };
            let worth = Difference { path: "apiKey".to_owned(), from: Some(worth(key)), to: None };
            let name = Arc::clone(&key.settings.name);
            let change = self.commit_key(before, (&name, None), (who, Action::Revoke, worth, generation))?;
            Ok((Some(change), ()))
        })?;
        Ok(effective.catalog.generation())
    }

    fn commit_key(
        &self,
        before: &Effective,
        (name, key): (&Arc<str>, Option<&StoredApiKey>),
        (who, action, difference, generation): (&Caller, Action, Difference, u64),
    ) -> Result<StoredChange, EditError> {
        // The trail shows it to an organization's own administrators where it is that organization's alone.
        let scope = key.or_else(|| before.layers.stored.api_keys.get(name)).map(|key| &key.settings.organizations);
        let organization = match scope {
            Some(OrganizationScope::Only(ids)) if ids.len() == 1 => ids.first().copied(),
            Some(OrganizationScope::Only(_) | OrganizationScope::All) | None => None,
        };
        let audit = entry(who, organization, action, (format!("api-keys/{name}"), generation, &[difference]));
        self.store.commit(&CatalogChange {
            advance: Some(Advance { from: before.layers.stored.generation, to: generation }),
            organizations: Vec::new(),
            api_keys: vec![(Arc::clone(name), key.cloned())],
            audit,
        })?;
        let mut stored = Stored { generation, ..Stored::clone(&before.layers.stored) };
        match key {
            Some(key) => stored.api_keys.insert(Arc::clone(name), key.clone()),
            None => stored.api_keys.remove(name),
        };
        Ok(StoredChange { stored, organizations: Vec::new() })
    }
}

/// Most keys that can be made: each request that brings one is compared with all of them.
const MOST_KEYS: usize = 1_000;
/// Most keys that an organization's own administrators can make.
const MOST_OWN_KEYS: usize = 50;

/// What the key is called. Those that an organization's own administrators make carry its name, so that none can pass for
/// somebody else's in logs and in the trail, and none can be guessed at.
fn name_for(before: &Effective, who: &Caller, asked: &Arc<str>) -> Result<Arc<str>, EditError> {
    let keys = &before.layers.stored.api_keys;
    let full = |most: usize| {
        EditError::TooLarge(format!("There are {most} API keys already, which is the most; revoke some."))
    };
    if keys.len() >= MOST_KEYS {
        return Err(full(MOST_KEYS));
    }
    let OrganizationScope::Only(own) = &who.organizations else { return Ok(Arc::clone(asked)) };
    if keys.values().filter(|key| who.covers(&key.settings.organizations)).count() >= MOST_OWN_KEYS {
        return Err(full(MOST_OWN_KEYS));
    }
    let organization = own.iter().find_map(|id| before.catalog.organization(id));
    let prefix = organization.map_or_else(String::new, |organization| format!("{}:", organization.unique_name));
    Ok(if asked.starts_with(&prefix) { Arc::clone(asked) } else { format!("{prefix}{asked}").into() })
}

/// What the trail says of a key: everything but its hash.
fn worth(key: &StoredApiKey) -> serde_json::Value {
    let mut worth = key.to_json();
    if let Some(members) = worth.as_object_mut() {
        members.remove("sha256");
    }
    worth
}
