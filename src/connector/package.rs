//! The package for one organization on one host: nothing in it has to be edited before it is imported.
//!
//! What differs from the source: host and scheme, everywhere; the title; the organization's ID as the default of every
//! field that asks for it; the lines of the readme that say whose package it is. For certification nothing is filled in
//! for an organization, since one connector then serves everybody: people type the address of their own gateway.

use std::io::{self, Cursor, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::json::Json;
use super::{DEFINITION, ICON, PLACEHOLDER_HOST, PROPERTIES, PROPERTIES_ENTRA, README, SETTINGS, title};
use crate::domain::ids::OrganizationId;

pub use super::host::{Host, NotAHost};

/// The file with the operations.
pub const DEFINITION_FILE: &str = "apiDefinition.swagger.json";
/// The file that says how people connect.
pub const PROPERTIES_FILE: &str = "apiProperties.json";
/// The same for those who sign in with Microsoft Entra.
pub const ENTRA_PROPERTIES_FILE: &str = "apiProperties.entra.json";
/// The file that tells Microsoft's command line where the others are.
pub const SETTINGS_FILE: &str = "settings.json";
/// The icon.
pub const ICON_FILE: &str = "icon.png";
/// The readme.
pub const README_FILE: &str = "readme.md";

/// Every file that a package may have.
pub const FILES: [&str; 6] =
    [DEFINITION_FILE, PROPERTIES_FILE, ENTRA_PROPERTIES_FILE, SETTINGS_FILE, ICON_FILE, README_FILE];

/// The client ID that stands where a registration in Entra is to be filled in.
const NO_CLIENT: &str = "00000000-0000-0000-0000-000000000000";
/// The organization in the examples of the source.
const SAMPLE_ORGANIZATION: &str = "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10";
/// The line of the readme that says whose package it is.
const WHOSE: &str = "This package is for every organization of the gateway: choose yours wherever one is asked for.";
/// What the readme says otherwise in the variant for certification, which is for every gateway and has no Entra file.
const CERTIFIED: [(&str, &str); 5] = [
    ("Whoever runs the gateway at https://gateway.example.com.", "Whoever runs your gateway."),
    (
        "- A running gateway that Power Platform can reach at https://gateway.example.com.",
        "- A running gateway that Power Platform can reach by https.",
    ),
    (
        "- An API key of the gateway, or an application registration in Microsoft Entra that the gateway trusts.",
        "- An API key of the gateway.",
    ),
    (
        "\n**Microsoft Entra.** Register an application whose scopes or roles have the names of these permissions, and let the\n\
         gateway trust its tenant (`[[issuers]]` in its configuration). Put the client ID, the tenant and the application ID URI\n\
         into `apiProperties.entra.json`, and give that file to the command line in place of `apiProperties.json`.\n",
        "",
    ),
    (
        "1. Create a connection. Leave the gateway's address as it is unless yours is another.",
        "1. Create a connection, and type the address of your gateway.",
    ),
];
/// Where the registration stands in the properties of who signs in with Entra.
const SIGN_IN: [&str; 4] = ["properties", "connectionParameters", "token", "oAuthSettings"];
/// Who publishes, in the variant for certification.
const PUBLISHER: &str = "Streamgate";

/// Whose package it is, and where their gateway is.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The organization's ID.
    pub organization: OrganizationId,
    /// Its unique name.
    pub unique_name: &'a str,
    /// Its name for people.
    pub name: &'a str,
    /// How callers reach the gateway.
    pub scheme: Scheme,
    /// Where.
    pub host: Host,
    /// Whether to make the variant that Microsoft's reviewers get.
    pub certification: bool,
}

/// How callers reach the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear: only an on-premises data gateway makes such calls.
    Http,
    /// Through something that ends TLS.
    Https,
}

impl Scheme {
    /// As in an address.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The files of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Package {
    /// Every file: its name and what is in it.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (*name, bytes.as_slice()))
    }

    /// The description: the file that the import dialogs take.
    pub fn definition(&self) -> &[u8] {
        self.files().find(|(name, _)| *name == DEFINITION_FILE).map_or(&[], |(_, bytes)| bytes)
    }

    /// All files in one archive. The same package is the same archive, byte for byte.
    ///
    /// # Errors
    /// None that is known: it is written to memory.
    pub fn zip(&self) -> io::Result<Vec<u8>> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644);
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in self.files() {
            archive.start_file(name, options)?;
            archive.write_all(bytes)?;
        }
        Ok(archive.finish()?.into_inner())
    }
}

/// Whether this is a definition of ours, and so its folder a package of ours, edited or not.
pub fn is_ours(definition: &[u8]) -> bool {
    let read = std::str::from_utf8(definition).ok().and_then(|text| Json::parse(text).ok());
    let route = read.as_ref().and_then(|tree| tree.at(&["paths", "/api/v1/records", "post"]));
    route.and_then(|route| route.text_of("operationId")) == Some("RouteRecord")
}

/// Whether a file of a package of ours holds what somebody put into it as they were told to: a registration in Entra, or
/// the settings that Microsoft's command line has written.
pub fn is_filled_in(name: &str, bytes: &[u8]) -> bool {
    let Some(tree) = std::str::from_utf8(bytes).ok().and_then(|text| Json::parse(text).ok()) else { return false };
    match name {
        ENTRA_PROPERTIES_FILE => {
            let client = tree.at(&SIGN_IN).and_then(|it| it.text_of("clientId")).unwrap_or_default();
            !client.is_empty() && client != NO_CLIENT
        }
        SETTINGS_FILE => tree.get("connectorId").is_some() || tree.get("environment").is_some(),
        _ => false,
    }
}

/// A file that is made anew, with what somebody put into the one that is there; `None` where nobody did.
pub fn carried_over(name: &str, there: &[u8], made: &[u8]) -> Option<Vec<u8>> {
    if !is_filled_in(name, there) {
        return None;
    }
    let read = |bytes| std::str::from_utf8(bytes).ok().and_then(|text| Json::parse(text).ok());
    match (name, read(there), read(made)) {
        // The address around the registration is the new one.
        (ENTRA_PROPERTIES_FILE, Some(there), Some(mut made)) => {
            made.at_mut(&SIGN_IN[..3])?.set("oAuthSettings", there.at(&SIGN_IN)?.clone());
            Some(made.to_file().into_bytes())
        }
        _ => Some(there.to_vec()),
    }
}

/// The package for an organization.
pub fn for_organization(subject: &Subject<'_>) -> Package {
    let host = subject.host.as_str();
    let address = format!("{}://{host}", subject.scheme.as_str());
    let placed = |text: &str| {
        text.contains(PLACEHOLDER_HOST)
            .then(|| text.replace(&format!("https://{PLACEHOLDER_HOST}"), &address).replace(PLACEHOLDER_HOST, host))
    };
    let properties = |source| {
        let mut properties = tree(source);
        properties.change_texts(&placed);
        if subject.certification {
            certify(&mut properties);
        }
        properties.to_file().into_bytes()
    };
    let mut files = vec![
        (DEFINITION_FILE, definition(subject, &placed).to_file().into_bytes()),
        (PROPERTIES_FILE, properties(PROPERTIES)),
    ];
    // A registration in Entra belongs to one tenant and its gateway, so a connector for everybody cannot bring one along.
    if !subject.certification {
        files.push((ENTRA_PROPERTIES_FILE, properties(PROPERTIES_ENTRA)));
    }
    let readme = readme(subject).replace(WHOSE, &whose(subject));
    let readme = placed(&readme).unwrap_or(readme);
    files.extend([
        (SETTINGS_FILE, SETTINGS.as_bytes().to_vec()),
        (ICON_FILE, ICON.to_vec()),
        (README_FILE, readme.into_bytes()),
    ]);
    Package { files }
}

/// The readme, in the words of the variant.
fn readme(subject: &Subject<'_>) -> String {
    let mut text = README.to_owned();
    if subject.certification {
        for (usual, certified) in CERTIFIED {
            text = text.replace(usual, certified);
        }
    }
    text
}

/// A file of the source as a tree. That each is JSON is tested.
fn tree(source: &str) -> Json {
    Json::parse(source).unwrap_or(Json::Null)
}

fn definition(subject: &Subject<'_>, placed: &impl Fn(&str) -> Option<String>) -> Json {
    let mut definition = tree(DEFINITION);
    definition.change_texts(placed);
    definition.set("schemes", vec![Json::from(subject.scheme.as_str())]);
    if subject.certification {
        return definition;
    }
    if let Some(info) = definition.get_mut("info") {
        info.set("title", title::of(subject.name, subject.unique_name));
    }
    let organization = subject.organization.to_string();
    definition.change_texts(&|text| {
        text.contains(SAMPLE_ORGANIZATION).then(|| text.replace(SAMPLE_ORGANIZATION, &organization))
    });
    fill_in(&mut definition, &organization);
    definition
}

/// Makes the organization the default of every parameter and every property that asks for one.
fn fill_in(value: &mut Json, organization: &str) {
    match value {
        Json::Object(members) => {
            for (name, member) in &mut *members {
                // Properties of answers have nothing to choose from, and need no default.
                if name == "organizationId" && member.get("x-ms-dynamic-values").is_some() {
                    member.set("default", organization);
                }
                fill_in(member, organization);
            }
            let is = |wanted: (&str, &str)| value.text_of(wanted.0) == Some(wanted.1);
            if is(("name", "organizationId")) && is(("in", "query")) {
                value.set("default", organization);
            }
        }
        Json::List(items) => items.iter_mut().for_each(|item| fill_in(item, organization)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => {}
    }
}

/// What Microsoft's reviewers want to see: who stands behind it, and that each customer names their own gateway.
fn certify(properties: &mut Json) {
    let Some(properties) = properties.get_mut("properties") else { return };
    properties.set("publisher", PUBLISHER);
    properties.set("stackOwner", PUBLISHER);
    if let Some(address) = properties.at_mut(&["connectionParameters", "gatewayUrl"]) {
        address.remove("defaultValue");
        if let Some(shown) = address.get_mut("uiDefinition") {
            shown.set("displayName", "Gateway Address");
            shown
                .set("description", "The address of your gateway with its scheme, such as https://gateway.contoso.com");
            shown.set("tooltip", "Ask the operator of your gateway");
            if let Some(constraints) = shown.get_mut("constraints") {
                constraints.set("required", "true");
            }
        }
    }
    if let Some(Json::List(policies)) = properties.get_mut("policyTemplateInstances") {
        for policy in policies {
            if let Some(parameters) = policy.get_mut("parameters") {
                parameters.set("x-ms-apimTemplateParameter.urlTemplate", "@connectionParameters('gatewayUrl')");
            }
        }
    }
}

/// Whose package it is, for the readme.
fn whose(subject: &Subject<'_>) -> String {
    if subject.certification {
        return "The connector is for every organization: each connection names the gateway that it talks to."
            .to_owned();
    }
    let name: String = subject
        .name
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .flat_map(|c| "\\`*_[]<>|#".contains(c).then_some('\\').into_iter().chain([c]))
        .collect();
    format!(
        "This package is for the organization {name} (unique name `{}`, ID `{}`): wherever one is asked for, it is filled in.",
        subject.unique_name, subject.organization
    )
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::connector::lint;
    use crate::domain::ids::Guid;

    fn subject(name: &'static str, certification: bool) -> Subject<'static> {
        Subject {
            organization: Guid::parse("11111111-2222-4333-8444-555555555555").expect("a GUID").into(),
            unique_name: "fabrikam",
            name,
            scheme: Scheme::Https,
            host: Host::parse("Gate.Fabrikam.example:8443").expect("a host"),
            certification,
        }
    }

    fn text(package: &Package, file: &str) -> String {
        let (_, bytes) = package.files().find(|(name, _)| *name == file).expect("the file is there");
        String::from_utf8(bytes.to_vec()).expect("UTF-8")
    }

    #[test]
    fn the_package_is_right_for_its_organization() {
        let package = for_organization(&subject("Fabrikam, Inc.", false));
        let definition = Json::parse(&text(&package, DEFINITION_FILE)).expect("JSON");
        assert_eq!(definition.text_of("host"), Some("gate.fabrikam.example:8443"));
        assert_eq!(definition.at(&["info", "title"]).and_then(Json::text), Some("Streamgate Fabrikam Inc"));
        let defaults = serde_json::to_string(&definition).expect("text");
        let filled = r#""default":"11111111-2222-4333-8444-555555555555""#;
        assert_eq!(defaults.matches(filled).count(), 7, "three bodies and four queries ask for an organization");
        for (file, _) in package.files().filter(|(name, _)| *name != ICON_FILE) {
            let text = text(&package, file);
            assert!(!text.contains(PLACEHOLDER_HOST), "{file}");
            assert!(!text.contains(SAMPLE_ORGANIZATION), "{file}");
        }
        let readme = text(&package, README_FILE);
        assert!(readme.contains("Fabrikam, Inc.") && readme.contains("unique name `fabrikam`"), "{readme}");
    }

    #[test]
    fn nothing_but_what_must_change_is_changed() {
        let package = for_organization(&subject("Fabrikam", false));
        let made = text(&package, DEFINITION_FILE);
        let other = made.lines().filter(|line| !DEFINITION.lines().any(|it| it == *line)).count();
        assert!(other < 40, "{other} lines differ");
        assert_eq!(tree(DEFINITION).to_file(), DEFINITION, "the source is written as this module writes it");
    }

    #[test]
    fn for_certification_people_type_their_address() {
        let package = for_organization(&subject("Fabrikam", true));
        let properties = text(&package, PROPERTIES_FILE);
        assert!(properties.contains(r#""@connectionParameters('gatewayUrl')""#), "{properties}");
        assert!(properties.contains(r#""stackOwner": "Streamgate""#), "{properties}");
        assert!(!properties.contains("Optional") && !properties.contains("defaultValue"), "{properties}");
        assert!(!text(&package, DEFINITION_FILE).contains("11111111-2222"));
        assert!(package.files().all(|(name, _)| name != ENTRA_PROPERTIES_FILE));
        let readme = text(&package, README_FILE);
        for wrong in ["entra", "Entra", "gate.fabrikam.example", "as it is unless"] {
            assert!(!readme.contains(wrong), "{wrong}: {readme}");
        }
        assert!(CERTIFIED.iter().all(|(usual, _)| README.contains(usual)), "the readme has other words by now");
    }

    #[test]
    fn every_package_passes_the_lint() {
        for name in ["Fabrikam", "Power Automate API", "", "株式会社", "a\u{7}`b`\n# c"] {
            for certification in [false, true] {
                let folder = tempfile::tempdir().expect("a folder");
                for (file, bytes) in for_organization(&subject(name, certification)).files() {
                    std::fs::write(folder.path().join(file), bytes).expect("written");
                }
                assert_eq!(lint::check(folder.path()).expect("read"), [], "{name} {certification}");
            }
        }
    }

    #[test]
    fn the_archive_is_readable_and_always_the_same() {
        let package = for_organization(&subject("Fabrikam", false));
        let archive = package.zip().expect("an archive");
        assert_eq!(archive, package.zip().expect("an archive"));
        let mut opened = zip::ZipArchive::new(Cursor::new(archive)).expect("readable");
        assert_eq!(opened.len(), package.files().count());
        for (name, bytes) in package.files() {
            let mut there = Vec::new();
            opened.by_name(name).expect("there").read_to_end(&mut there).expect("readable");
            assert_eq!(there, bytes, "{name}");
        }
    }

    #[test]
    fn a_package_of_ours_is_known_by_its_definition() {
        assert!(is_ours(for_organization(&subject("Fabrikam", false)).definition()));
        for other in ["", "{}", r#"{"paths":{"/api/v1/records":{"post":{"operationId":"CreateRecord"}}}}"#] {
            assert!(!is_ours(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn what_comes_out_is_not_filled_in() {
        let package = for_organization(&subject("Fabrikam", false));
        for (name, bytes) in package.files() {
            assert!(!is_filled_in(name, bytes) && FILES.contains(&name), "{name}");
        }
        let registered =
            text(&package, ENTRA_PROPERTIES_FILE).replace(NO_CLIENT, "5f0c1d9e-8b7a-4432-9c1d-0e2f3a4b5c6d");
        assert!(is_filled_in(ENTRA_PROPERTIES_FILE, registered.as_bytes()));
        assert!(is_filled_in(SETTINGS_FILE, br#"{"connectorId": "shared_streamgate"}"#));
        assert!(!is_filled_in(ENTRA_PROPERTIES_FILE, b"") && !is_filled_in(SETTINGS_FILE, b"{"));
        // The registration goes over to another host, and nothing else of the old file.
        let elsewhere = Subject { host: Host::parse("new.example").expect("a host"), ..subject("Fabrikam", false) };
        let made = text(&for_organization(&elsewhere), ENTRA_PROPERTIES_FILE);
        let carried = carried_over(ENTRA_PROPERTIES_FILE, registered.as_bytes(), made.as_bytes()).expect("filled in");
        let carried = String::from_utf8(carried).expect("UTF-8");
        assert!(carried.contains("5f0c1d9e") && carried.contains("new.example"), "{carried}");
        assert!(!carried.contains("gate.fabrikam.example"), "{carried}");
    }
}
