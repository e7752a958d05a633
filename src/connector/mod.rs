//! The connector package: what Power Automate, Power Apps and Logic Apps import to know the gateway, and what else is
//! made of the same description.
//!
//! `openapi/apiDefinition.swagger.json` is the source, written by hand in OpenAPI 2.0, the only version that custom
//! connectors take. From it come
//!
//! * [`package`]: the files to import, made right for one organization and one host;
//! * [`openapi3`]: the same operations in OpenAPI 3.1, for everybody else (`openapi/openapi.json`);
//! * [`page`]: the 3.1 description as a page to read.
//!
//! [`lint`] holds a package to the rules of Microsoft's reviewers and wizards that no schema knows. Nothing here reads a
//! configuration or speaks HTTP: who asks says for which organization and host.

mod host;
pub mod json;
pub mod lint;
pub mod openapi3;
pub mod package;
pub mod page;
pub mod title;

/// The description in OpenAPI 2.0, as it is in the repository: the source of all others.
pub const DEFINITION: &str = include_str!("../../openapi/apiDefinition.swagger.json");

/// The description in OpenAPI 3.1; a test holds it to what [`openapi3::convert`] makes of [`DEFINITION`].
pub const OPENAPI_3: &str = include_str!("../../openapi/openapi.json");

/// How people connect: with an API key.
const PROPERTIES: &str = include_str!("../../openapi/apiProperties.json");

/// How people connect: with Microsoft Entra.
const PROPERTIES_ENTRA: &str = include_str!("../../openapi/apiProperties.entra.json");

/// Where Microsoft's command line finds the other files.
const SETTINGS: &str = include_str!("../../openapi/settings.json");

/// What people read first.
const README: &str = include_str!("../../openapi/readme.md");

/// The picture that people look for.
const ICON: &[u8] = include_bytes!("../../openapi/icon.png");

/// The host that stands in the source where the gateway's own will stand.
const PLACEHOLDER_HOST: &str = "gateway.example.com";
