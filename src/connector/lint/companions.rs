//! The files beside the definition: how people connect, the settings, the icon, the readme.

use std::path::Path;

use super::{Report, below, operations_of};
use crate::connector::json::Json;

/// The sections that Microsoft's template requires.
const SECTIONS: [&str; 6] = [
    "Publisher",
    "Prerequisites",
    "Supported Operations",
    "Obtaining Credentials",
    "Known Issues and Limitations",
    "Deployment Instructions",
];

pub(super) fn properties(file: &Json, definition: Option<&Json>, report: &mut Report) {
    let empty = Json::Null;
    let properties = file.get("properties").unwrap_or(&empty);
    brand_color(properties.text_of("iconBrandColor"), report);
    let parameters = properties.get("connectionParameters").map(Json::members).unwrap_or_default();
    if parameters.is_empty() && properties.get("connectionParameterSets").is_none() {
        let mend = "Say what people give when they connect: an API key, or a sign-in.";
        report.add("connection", "/properties/connectionParameters", "there is nothing to connect with", mend);
    }
    let signs_in = parameters.iter().any(|(_, parameter)| parameter.text_of("type") == Some("oauthSetting"));
    for (name, parameter) in parameters {
        connection_parameter(name, parameter, report);
    }
    let keys = definition.and_then(|it| it.get("securityDefinitions")).map(Json::members).unwrap_or_default();
    for (name, _) in keys.iter().filter(|(_, scheme)| scheme.text_of("type") == Some("apiKey")) {
        let given = parameters.iter().find(|(it, _)| it == name).and_then(|(_, parameter)| parameter.text_of("type"));
        if !signs_in && properties.get("connectionParameterSets").is_none() && given != Some("securestring") {
            let place = below("/properties/connectionParameters", name);
            let mend = "Add a parameter of this name and of the type `securestring`.";
            report.add(
                "connection",
                &place,
                format!("the definition wants the key `{name}`; nobody is asked for it"),
                mend,
            );
        }
    }
    for (at, policy) in
        properties.get("policyTemplateInstances").map(Json::items).unwrap_or_default().iter().enumerate()
    {
        let place = format!("/properties/policyTemplateInstances/{at}");
        for (_, value) in policy.get("parameters").map(Json::members).unwrap_or_default() {
            for name in named_parameters(value.text().unwrap_or_default()) {
                if !parameters.iter().any(|(it, _)| it == name) && properties.get("connectionParameterSets").is_none() {
                    let mend = "Name one of `connectionParameters`.";
                    report.add("policy", &place, format!("there is no connection parameter `{name}`"), mend);
                }
            }
        }
    }
}

/// The names in `@connectionParameters('name', …)`.
fn named_parameters(text: &str) -> impl Iterator<Item = &str> {
    text.split("@connectionParameters('").skip(1).filter_map(|rest| rest.split('\'').next())
}

fn brand_color(color: Option<&str>, report: &mut Report) {
    const PLACE: &str = "/properties/iconBrandColor";
    let color = color.unwrap_or_default();
    let digits = color.strip_prefix('#').unwrap_or_default();
    if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let mend = "Write the color of the icon's background as `#rrggbb`.";
        report.add("brand-color", PLACE, format!("`{color}` is no color"), mend);
    } else if ["#007ee5", "#ffffff"].iter().any(|taken| color.eq_ignore_ascii_case(taken)) {
        let mend = "Take the color of the icon's background; white and the default blue are refused.";
        report.add("brand-color", PLACE, format!("`{color}` is refused by reviewers"), mend);
    }
}

fn connection_parameter(name: &str, parameter: &Json, report: &mut Report) {
    let place = below("/properties/connectionParameters", name);
    let shown = parameter.get("uiDefinition").unwrap_or(&Json::Null);
    for member in ["displayName", "description"] {
        if shown.text_of(member).is_none_or(str::is_empty) {
            let place = below(&below(&place, "uiDefinition"), member);
            report.add("connection", &place, format!("the parameter has no {member}"), "Say what people are to type.");
        }
    }
    if shown.at(&["constraints", "required"]).is_some_and(|it| !matches!(it.text(), Some("true" | "false"))) {
        let place = below(&place, "uiDefinition/constraints/required").replace("~1", "/");
        report.add("connection", &place, "`required` is not text", "Write `\"true\"` or `\"false\"`, in quotes.");
    }
}

pub(super) fn settings(settings: &Json, folder: &Path, report: &mut Report) {
    for member in ["apiDefinition", "apiProperties", "icon"] {
        let Some(name) = settings.text_of(member) else { continue };
        if !folder.join(name).is_file() {
            let wrong = format!("there is no file `{name}`");
            report.add("settings", &below("", member), wrong, "Name a file of the package, relative to it.");
        }
    }
}

/// What the head of a PNG says; the pixels are for people to look at.
pub(super) fn icon(bytes: &[u8], report: &mut Report) {
    const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const SIDE: u32 = 230;
    let number = |at: usize| bytes.get(at..at + 4).and_then(|it| it.try_into().ok()).map_or(0, u32::from_be_bytes);
    if !bytes.starts_with(SIGNATURE) || bytes.len() < 33 {
        report.add("icon", "", "the icon is no PNG", "Save it as a PNG of 230 by 230 pixels.");
        return;
    }
    let (width, height) = (number(16), number(20));
    if (width, height) != (SIDE, SIDE) {
        let wrong = format!("the icon is {width} by {height} pixels");
        report.add("icon", "", wrong, format!("Make it {SIDE} by {SIDE}."));
    }
    // Byte 25 is the color type; bit 2 of it says that there is an alpha channel.
    let has_alpha = bytes.get(25).is_some_and(|color_type| color_type & 4 != 0);
    if has_alpha || bytes.windows(4).any(|chunk| chunk == b"tRNS") {
        let mend = "Fill the background with the brand color and save without transparency.";
        report.add("icon", "", "the icon may be transparent", mend);
    }
    if bytes.len() >= 1_000_000 {
        report.add("icon", "", "the icon has 1 MB or more", "Compress it.");
    }
}

pub(super) fn readme(text: &str, definition: Option<&Json>, report: &mut Report) {
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    let has = |wanted: &str| {
        headings.iter().any(|heading| {
            let heading = heading.trim_start_matches('#').trim();
            heading.eq_ignore_ascii_case(wanted) || heading.starts_with(&format!("{wanted}:"))
        })
    };
    if !text.starts_with("# ") {
        report.add("readme", "", "the readme does not begin with a title", "Begin it with `# ` and the title.");
    }
    for section in SECTIONS.iter().filter(|section| !has(section)) {
        let mend = format!("Add the section `## {section}`.");
        report.add("readme", "", format!("the readme has no section `{section}`"), mend);
    }
    let operations = definition.map(operations_of).unwrap_or_default();
    for shown in operations.iter().filter(|it| it.operation.text_of("x-ms-visibility") != Some("internal")) {
        if let Some(summary) = shown.operation.text_of("summary").filter(|summary| !has(summary)) {
            let mend = format!("Add `### {summary}` to the supported operations, and describe it.");
            report.add("readme", "", format!("the readme does not describe `{summary}`"), mend);
        }
    }
}
