//! What fills drop-downs: both forms are there, and name operations, parameters and members that are there too.

use super::{Placed, Report, below, operations_of, parameters_of, resolved};
use crate::connector::json::Json;

/// The old form and the new one, with the names of what they hold.
const FORMS: [Form; 2] = [
    Form {
        name: "x-ms-dynamic-values",
        list: "value-collection",
        title: "value-title",
        value: "value-path",
        reference: "parameter",
    },
    Form {
        name: "x-ms-dynamic-list",
        list: "itemsPath",
        title: "itemTitlePath",
        value: "itemValuePath",
        reference: "parameterReference",
    },
];

struct Form {
    name: &'static str,
    list: &'static str,
    title: &'static str,
    value: &'static str,
    reference: &'static str,
}

pub(super) fn check(definition: &Json, report: &mut Report) {
    for placed in operations_of(definition) {
        let inputs = Inputs::of(definition, &placed);
        for (number, parameter) in parameters_of(placed.operation).iter().enumerate() {
            let place = below(&below(&placed.place, "parameters"), &number.to_string());
            if parameter.text_of("in") == Some("body") {
                let schema = parameter.get("schema").unwrap_or(&Json::Null);
                // What is behind a reference is told by the place of its target, once for all that refer to it.
                let place =
                    schema.text_of("$ref").map_or_else(|| below(&place, "schema"), |it| it.replacen('#', "", 1));
                properties(definition, schema, &place, &inputs, report);
            } else {
                forms(definition, parameter, &place, &inputs, report);
            }
        }
    }
}

/// What an operation takes, and thus what a choice may depend on.
struct Inputs<'a> {
    /// Parameters but for the body.
    parameters: Vec<&'a str>,
    /// Properties of the body.
    properties: Vec<&'a str>,
}

impl<'a> Inputs<'a> {
    fn of(definition: &'a Json, placed: &Placed<'a>) -> Self {
        let (bodies, others): (Vec<&Json>, Vec<&Json>) =
            parameters_of(placed.operation).iter().partition(|parameter| parameter.text_of("in") == Some("body"));
        let schemas =
            bodies.into_iter().filter_map(|body| resolved(definition, body.get("schema")?)?.get("properties"));
        Self {
            parameters: others.into_iter().filter_map(|parameter| parameter.text_of("name")).collect(),
            properties: schemas.flat_map(Json::members).map(|(name, _)| name.as_str()).collect(),
        }
    }

    /// Whether a reference of this form names one of them. The old form has no way to say `body/`.
    fn have(&self, form: &Form, reference: &str) -> bool {
        let in_body = if form.reference == "parameter" { Some(reference) } else { reference.strip_prefix("body/") };
        self.parameters.contains(&reference) || in_body.is_some_and(|name| self.properties.contains(&name))
    }
}

fn properties(definition: &Json, schema: &Json, place: &str, inputs: &Inputs<'_>, report: &mut Report) {
    let Some(schema) = resolved(definition, schema) else { return };
    for (name, property) in schema.get("properties").map(Json::members).unwrap_or_default() {
        forms(definition, property, &below(&below(place, "properties"), name), inputs, report);
    }
}

fn forms(definition: &Json, what: &Json, place: &str, inputs: &Inputs<'_>, report: &mut Report) {
    let there: Vec<_> = FORMS.iter().filter_map(|form| Some((form, what.get(form.name)?))).collect();
    if let [(form, _)] = there.as_slice() {
        let mend = "Give both: designers differ in which they read.";
        report.add("choices", place, format!("of the two forms there is only `{}`", form.name), mend);
    }
    for (form, choices) in there {
        let place = below(place, form.name);
        let id = choices.text_of("operationId").unwrap_or_default();
        let Some(source) =
            operations_of(definition).into_iter().find(|it| it.operation.text_of("operationId") == Some(id))
        else {
            let mend = "Name an operation that is there.";
            report.add("choices", &below(&place, "operationId"), format!("there is no operation `{id}`"), mend);
            continue;
        };
        let choice = Choice { choices, form, source: &source, place: &place };
        choice.parameters(inputs, report);
        choice.members(definition, report);
    }
}

/// One of the two forms at one place, and the operation that it calls.
struct Choice<'a> {
    choices: &'a Json,
    form: &'a Form,
    source: &'a Placed<'a>,
    place: &'a str,
}

impl Choice<'_> {
    fn parameters(&self, inputs: &Inputs<'_>, report: &mut Report) {
        let Self { choices, form, source, place } = self;
        for (name, value) in choices.get("parameters").map(Json::members).unwrap_or_default() {
            let place = below(&below(place, "parameters"), name);
            if !parameters_of(source.operation).iter().any(|it| it.text_of("name") == Some(name)) {
                let id = source.operation.text_of("operationId").unwrap_or_default();
                let mend = "Name a parameter of the operation that is called.";
                report.add("choices", &place, format!("`{id}` has no parameter `{name}`"), mend);
            }
            if let Some(reference) = value.text_of(form.reference)
                && !inputs.have(form, reference)
            {
                let mend = "Refer to a parameter of this operation, or to a property of its body as `body/name` in the new form.";
                report.add("choices", &place, format!("there is nothing here called `{reference}`"), mend);
            }
        }
        for parameter in parameters_of(source.operation).iter().filter(|parameter| parameter.is_true("required")) {
            let name = parameter.text_of("name").unwrap_or_default();
            if choices.at(&["parameters", name]).is_none() {
                let mend = "Give it a value or a reference under `parameters`.";
                report.add("choices", place, format!("the required parameter `{name}` gets no value"), mend);
            }
        }
    }

    /// The list, the title and the value are in the answer of the operation that is called.
    fn members(&self, definition: &Json, report: &mut Report) {
        let Self { choices, form, source, place } = self;
        let answer = source.operation.at(&["responses", "200", "schema"]).and_then(|it| resolved(definition, it));
        let list = choices.text_of(form.list).unwrap_or_default();
        let items = answer.and_then(|it| it.at(&["properties", list, "items"])).and_then(|it| resolved(definition, it));
        let Some(items) = items else {
            let mend = "Name the member of the answer that holds the list.";
            report.add("choices", &below(place, form.list), format!("the answer has no list `{list}`"), mend);
            return;
        };
        for name in [form.title, form.value] {
            let member = choices.text_of(name).unwrap_or_default();
            if items.at(&["properties", member]).is_none() {
                let mend = "Name a member of the items.";
                report.add("choices", &below(place, name), format!("the items have no member `{member}`"), mend);
            }
        }
    }
}
