//! The title of a connector: which are allowed, and the right one for an organization.
//!
//! Microsoft's rules: at most 30 characters; without the words "API" and "Connector" and without the name of a Power
//! Platform product; English letters; the last character is a letter, a digit or a closing parenthesis.

/// The most characters that a title may have.
pub const LONGEST: usize = 30;

/// What every title begins with, and the whole title where an organization's name gives no better.
pub const PLAIN: &str = "Streamgate";

/// Words that a title must not have.
const WORDS: [&str; 4] = ["api", "apis", "connector", "connectors"];

/// Products, without blanks: `power automate` is as wrong as `PowerAutomate`.
const PRODUCTS: [&str; 13] = [
    "powerautomate",
    "powerapps",
    "powerapp",
    "powerbi",
    "powerpages",
    "powerplatform",
    "powervirtualagents",
    "powerfx",
    "microsoftflow",
    "logicapps",
    "logicapp",
    "copilotstudio",
    "dataverse",
];

/// The first word or product name in a title that must not be there.
pub fn forbidden(title: &str) -> Option<&'static str> {
    let words = title.split(|c: char| !c.is_alphanumeric()).map(str::to_ascii_lowercase);
    let word = words.filter_map(|word| WORDS.into_iter().find(|bad| *bad == word)).next();
    let joined: String = title.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
    word.or_else(|| PRODUCTS.into_iter().find(|product| joined.contains(product)))
}

/// What is wrong with a title, if anything is.
pub fn fault(title: &str) -> Option<String> {
    if title.is_empty() {
        return Some("the title is empty".to_owned());
    }
    if title.chars().count() > LONGEST {
        return Some(format!("the title has more than {LONGEST} characters"));
    }
    if let Some(word) = forbidden(title) {
        return Some(format!("the title has the word `{word}`, which is not allowed there"));
    }
    if !title.ends_with(|c: char| c.is_ascii_alphanumeric() || c == ')') {
        return Some("the title does not end with a letter, a digit or a closing parenthesis".to_owned());
    }
    None
}

/// The title of an organization's connector: by its name, else by its unique name, else the plain one.
pub fn of(name: &str, unique_name: &str) -> String {
    // A name with a forbidden word is not shortened until the word is gone: what is left would be half a name.
    let names = [name, unique_name].into_iter().filter(|name| forbidden(name).is_none());
    let mut titles = names.map(|name| shortened(&format!("{PLAIN} {}", speakable(name))));
    titles.find(|title| title != PLAIN && fault(title).is_none()).unwrap_or_else(|| PLAIN.to_owned())
}

/// The letters, digits and hyphens of a name, in words; nothing of a name that would lose letters.
fn speakable(name: &str) -> String {
    if name.chars().any(|c| c.is_alphabetic() && !c.is_ascii()) {
        return String::new();
    }
    let kept: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { ' ' }).collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// As many whole words as fit.
fn shortened(title: &str) -> String {
    let mut short = String::new();
    for word in title.split_whitespace() {
        if short.len() + 1 + word.len() > LONGEST + usize::from(short.is_empty()) {
            break;
        }
        if !short.is_empty() {
            short.push(' ');
        }
        short.push_str(word);
    }
    short.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn titles_name_the_organization_where_they_can() {
        for (name, unique_name, title) in [
            ("Contoso Ltd.", "contoso", "Streamgate Contoso Ltd"),
            ("Société Générale", "socgen", "Streamgate socgen"),
            ("Fabrikam Power Automate", "fabrikam", "Streamgate fabrikam"),
            ("The API of Wingtip", "wingtip", "Streamgate wingtip"),
            ("Power Apps", "powerapps", "Streamgate"),
            ("Northwind Traders International Holding", "nw", "Streamgate Northwind Traders"),
            ("Donaudampfschifffahrtsgesellschaft", "ddsg", "Streamgate ddsg"),
            ("", "", "Streamgate"),
            ("!!!", "-", "Streamgate"),
        ] {
            assert_eq!(of(name, unique_name), title, "{name}");
        }
    }

    #[test]
    fn product_names_are_found_however_they_are_written() {
        for title in ["Contoso API", "my connector", "Power Automate hub", "PowerBI tiles", "Logic-Apps"] {
            assert!(forbidden(title).is_some(), "{title}");
        }
        for title in ["Therapist", "Rapid", "Connectorless", "Powerful BIm"] {
            assert!(forbidden(title).is_none(), "{title}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_name_the_title_keeps_the_rules(name in ".{0,60}", unique_name in "[A-Za-z0-9-]{0,63}") {
            prop_assert_eq!(fault(&of(&name, &unique_name)), None);
        }

        #[test]
        fn names_made_of_forbidden_words_do_too(words in proptest::collection::vec(
            prop_oneof![Just("API"), Just("Connector"), Just("Power"), Just("Automate"), Just("BI"), Just("x")], 0..6)) {
            prop_assert_eq!(fault(&of(&words.join(" "), &words.join("-"))), None);
        }
    }
}
