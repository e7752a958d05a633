//! `streamgate keys create|list|revoke`: API keys of a running gateway.

use reqwest::Method;
use serde_json::json;

use super::super::client::{ClientArgs, block_on};
use super::super::output::Output;
use super::{Desk, Exit, Failure, path, text};

/// A key that is to be made.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CreateKey {
    /// What the key is called in logs.
    name: String,
    /// What it may do: records.write, records.read, work.handle, admin.
    #[arg(long = "permission", value_name = "PERMISSION", default_values = ["records.write", "records.read"])]
    permissions: Vec<String>,
    /// The organizations it is for, by unique name or GUID; "*" for all.
    #[arg(long = "organization", value_name = "NAME", required = true)]
    organizations: Vec<String>,
    /// When it ends: 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "MOMENT")]
    expires: Option<String>,
}

/// Makes a key, and shows it this once.
pub(in crate::cli) fn create(client: &ClientArgs, args: &CreateKey, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(client, output)?;
    let organizations =
        if args.organizations.iter().any(|name| name == "*") { json!("*") } else { json!(args.organizations) };
    let mut body = json!({ "name": args.name, "permissions": args.permissions, "organizations": organizations });
    if let (Some(members), Some(expires)) = (body.as_object_mut(), &args.expires) {
        members.insert("expires".to_owned(), expires.as_str().into());
    }
    block_on(async {
        let made = desk.ask(Method::POST, "/admin/v1/api-keys", Some(&body), None).await?.body;
        if output.is_json() {
            output.json(&made)?;
            return Ok(Exit::Done);
        }
        output.note("The key, shown this once. It counts already; give it to its caller and to nobody else:\n")?;
        output.line(text(&made, "key"))?;
        Ok(Exit::Done)
    })
}

/// Lists the keys that this credential may know of.
pub(in crate::cli) fn list(client: &ClientArgs, output: &Output) -> Result<Exit, Failure> {
    const SHOWN: [(&str, &str); 6] = [
        ("NAME", "name"),
        ("PERMISSIONS", "permissions"),
        ("ORGANIZATIONS", "organizations"),
        ("EXPIRES", "expires"),
        ("CREATED", "createdAt"),
        ("FROM FILE", "provisionedFrom"),
    ];
    let desk = Desk::new(client, output)?;
    block_on(async { desk.table(&desk.all("/admin/v1/api-keys").await?, &SHOWN) })
}

/// Ends a key.
pub(in crate::cli) fn revoke(client: &ClientArgs, name: &str, output: &Output) -> Result<Exit, Failure> {
    let desk = Desk::new(client, output)?;
    block_on(async {
        let gone = desk.ask(Method::DELETE, &path(&["api-keys", name]), None, None).await?.body;
        desk.done(&gone, &format!("The key `{name}` counts no more."))
    })
}
