//! CloudFormation's functions, resolved: what is left are texts, lists, maps and references to resources.

use std::collections::BTreeMap;

use super::node::{Node, Value};
use super::parameters::TemplateParameters;

/// What a template's problems are collected as: a line, what is wrong, and a hint.
type Found = Vec<(usize, String, Option<String>)>;
/// A problem without a hint.
type Wrong = (usize, String);

/// Attributes that stand for the resource itself: they are its name.
const NAMES: [&str; 6] = ["ModelName", "EndpointConfigName", "EndpointName", "Arn", "Id", "ModelArn"];

/// Resolves parts of a template.
pub(super) struct Resolver {
    /// Values by the names of parameters, pseudo parameters included.
    pub parameters: BTreeMap<String, String>,
    /// The names of resources.
    pub resources: Vec<String>,
}

/// The values of a template's parameters: those that are given, else their defaults.
pub(super) fn parameters(
    declared: Option<&Node>,
    given: &TemplateParameters,
    found: &mut Found,
) -> BTreeMap<String, String> {
    let mut values: BTreeMap<String, String> = [
        ("AWS::Region", crate::arn::REGION),
        ("AWS::AccountId", crate::arn::ACCOUNT),
        ("AWS::Partition", "aws"),
        ("AWS::URLSuffix", "amazonaws.com"),
        ("AWS::StackName", given.stack.as_str()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let declared = declared.map(Node::entries).unwrap_or_default();
    for (name, parameter) in declared {
        let default = parameter.get("Default").and_then(Node::text);
        let Some(value) = given.values.get(name).cloned().or(default) else {
            let hint = Some(format!("write --parameter {name}=VALUE"));
            found.push((parameter.line, format!("the parameter {name} has no value"), hint));
            continue;
        };
        let allowed: Vec<String> =
            parameter.get("AllowedValues").map(Node::items).unwrap_or_default().iter().filter_map(Node::text).collect();
        if !allowed.is_empty() && !allowed.contains(&value) {
            let what = format!("the parameter {name} is {value:?}: allowed are {}", allowed.join(", "));
            found.push((parameter.line, what, None));
        }
        values.insert(name.clone(), value);
    }
    for name in given.values.keys().filter(|name| !declared.iter().any(|(known, _)| known == *name)) {
        found.push((1, format!("the template has no parameter {name}"), None));
    }
    values
}

impl Resolver {
    /// Resolves all functions in a part.
    pub fn resolve(&self, node: &Node) -> Result<Node, Wrong> {
        let value = match &node.value {
            Value::Text(_) | Value::Reference(_) => node.value.clone(),
            Value::List(items) => Value::List(items.iter().map(|item| self.resolve(item)).collect::<Result<_, _>>()?),
            Value::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| Ok((key.clone(), self.resolve(value)?)));
                let mut entries: Vec<(String, Node)> = entries.collect::<Result<_, Wrong>>()?;
                // AWS::NoValue removes its property.
                entries.retain(|(_, value)| value.value != Value::Text(None));
                Value::Map(entries)
            }
            Value::Call(name, argument) => self.call(name, argument)?,
        };
        Ok(Node { line: node.line, value })
    }

    fn call(&self, name: &str, argument: &Node) -> Result<Value, Wrong> {
        let line = argument.line;
        let wrong = |what: &str| (line, format!("{name}: {what}"));
        match name {
            "Ref" => self.named(&argument.text().ok_or_else(|| wrong("expected a name"))?, line),
            "Fn::GetAtt" => {
                let path = match &argument.value {
                    Value::List(items) => {
                        items.iter().map(Node::text).collect::<Option<Vec<_>>>().map(|parts| parts.join("."))
                    }
                    _ => argument.text(),
                };
                self.attribute(&path.ok_or_else(|| wrong("expected a resource and an attribute"))?, line)
            }
            "Fn::Sub" => {
                let (text, more) = match argument.items() {
                    [text, more] => (text.text(), self.resolve(more)?),
                    _ => (argument.text(), Node::empty(line)),
                };
                self.substitute(&text.ok_or_else(|| wrong("expected a text"))?, &more, line)
            }
            "Fn::Join" => {
                let [separator, items] = argument.items() else { return Err(wrong("expected a separator and a list")) };
                let separator = separator.text().ok_or_else(|| wrong("the separator must be a text"))?;
                let items = self.resolve(items)?;
                let texts = items.items().iter().map(|item| self.plain(item)).collect::<Result<Vec<_>, _>>()?;
                Ok(Value::Text(Some(texts.join(&separator))))
            }
            "Fn::Select" => {
                let [at, items] = argument.items() else { return Err(wrong("expected an index and a list")) };
                let at = self.resolve(at)?.text().and_then(|text| text.parse::<usize>().ok());
                let items = self.resolve(items)?;
                let chosen = at.and_then(|at| items.items().get(at).cloned());
                chosen.map(|chosen| chosen.value).ok_or_else(|| wrong("there is no item of that index"))
            }
            other => Err((line, format!("the function {other} is not supported here"))),
        }
    }

    /// What a name stands for: a parameter, or a resource.
    fn named(&self, name: &str, line: usize) -> Result<Value, Wrong> {
        if name == "AWS::NoValue" {
            return Ok(Value::Text(None));
        }
        if let Some(value) = self.parameters.get(name) {
            return Ok(Value::Text(Some(value.clone())));
        }
        match self.resources.iter().any(|resource| resource == name) {
            true => Ok(Value::Reference(name.to_owned())),
            false => {
                let known: Vec<&str> = self.parameters.keys().chain(&self.resources).map(String::as_str).collect();
                let near = base::nearest(name, known).map(|near| format!("; nearest name: {near:?}"));
                let near = near.unwrap_or_default();
                Err((line, format!("the template has no parameter or resource {name:?}{near}")))
            }
        }
    }

    fn attribute(&self, path: &str, line: usize) -> Result<Value, Wrong> {
        let (resource, attribute) = path.split_once('.').unwrap_or((path, ""));
        let found = self.named(resource, line)?;
        match (&found, NAMES.contains(&attribute)) {
            (Value::Reference(_), true) => Ok(found),
            (Value::Reference(_), false) => Err((line, format!("the attribute {path} is not supported here"))),
            _ => Err((line, format!("{resource:?} is a parameter, not a resource"))),
        }
    }

    /// Replaces `${NAME}` and `${RESOURCE.ATTRIBUTE}`; `${!LITERAL}` is `${LITERAL}`.
    fn substitute(&self, text: &str, more: &Node, line: usize) -> Result<Value, Wrong> {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some(at) = rest.find("${") {
            filled.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let end = inner.find('}').ok_or_else(|| (line, format!("Fn::Sub: {text:?} has no }} after ${{")))?;
            let name = inner[..end].trim();
            match (name.strip_prefix('!'), more.get(name)) {
                (Some(literal), _) => filled.push_str(&format!("${{{literal}}}")),
                (None, Some(given)) => filled.push_str(&self.plain(given)?),
                (None, None) => {
                    let value = if name.contains('.') { self.attribute(name, line)? } else { self.named(name, line)? };
                    filled.push_str(&self.plain(&Node { line, value })?);
                }
            }
            rest = &inner[end + 1..];
        }
        filled.push_str(rest);
        Ok(Value::Text(Some(filled)))
    }

    /// A resolved part as a text. The text of a resource is its name.
    fn plain(&self, node: &Node) -> Result<String, Wrong> {
        match &node.value {
            Value::Text(text) => Ok(text.clone().unwrap_or_default()),
            Value::Reference(name) => Ok(name.clone()),
            _ => Err((node.line, "expected a text".to_owned())),
        }
    }

    /// The resources that a part refers to.
    pub fn needs(&self, node: &Node) -> Vec<String> {
        let mut found = Vec::new();
        self.add_needs(node, &mut found);
        found.sort();
        found.dedup();
        found
    }

    fn add_needs(&self, node: &Node, found: &mut Vec<String>) {
        match &node.value {
            Value::Text(_) | Value::Reference(_) => {}
            Value::List(items) => items.iter().for_each(|item| self.add_needs(item, found)),
            Value::Map(entries) => {
                for (key, value) in entries {
                    match (key.as_str(), &value.value) {
                        ("DependsOn", Value::Text(Some(name))) => self.add(name, found),
                        ("DependsOn", Value::List(names)) => {
                            names.iter().filter_map(Node::text).for_each(|name| self.add(&name, found));
                        }
                        _ => self.add_needs(value, found),
                    }
                }
            }
            Value::Call(name, argument) => {
                match name.as_str() {
                    "Ref" | "Fn::GetAtt" => {
                        let first = argument.text().or_else(|| argument.items().first().and_then(Node::text));
                        let first = first.unwrap_or_default();
                        self.add(first.split('.').next().unwrap_or_default(), found);
                    }
                    "Fn::Sub" => {
                        let text = argument.text().or_else(|| argument.items().first().and_then(Node::text));
                        for part in text.unwrap_or_default().split("${").skip(1) {
                            self.add(part.split(['}', '.']).next().unwrap_or_default().trim(), found);
                        }
                    }
                    _ => {}
                }
                self.add_needs(argument, found);
            }
        }
    }

    fn add(&self, name: &str, found: &mut Vec<String>) {
        if self.resources.iter().any(|resource| resource == name) {
            found.push(name.to_owned());
        }
    }
}
