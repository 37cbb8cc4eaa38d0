//! AWS CloudFormation templates with SageMaker's models and endpoints, as declared endpoints.
//!
//! Supported are the resources `AWS::SageMaker::Model`, `EndpointConfig` and `Endpoint`, parameters, and the functions
//! `Ref`, `Fn::GetAtt`, `Fn::Sub`, `Fn::Join` and `Fn::Select`. Roles and policies are left out, since nothing here needs
//! them. Anything else is a problem with its line.

mod node;
mod parameters;
mod resolve;

use std::collections::BTreeMap;
use std::path::Path;

use base::Problem;

use super::declared::{EndpointDefinition, VariantDefinition};
use node::{Node, Value};
pub use parameters::TemplateParameters;
use resolve::Resolver;

const MODEL: &str = "AWS::SageMaker::Model";
const CONFIG: &str = "AWS::SageMaker::EndpointConfig";
const ENDPOINT: &str = "AWS::SageMaker::Endpoint";
/// Types of resources that have no meaning on one machine.
const IGNORED: [&str; 3] = ["AWS::IAM::", "AWS::Logs::", "AWS::CloudWatch::"];
/// Parts of a template that say nothing about its resources.
const SECTIONS: [&str; 6] =
    ["AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Resources", "Outputs"];

/// A resource of a template, with its properties resolved.
struct Resource {
    name: String,
    kind: String,
    line: usize,
    properties: Node,
}

/// Reads a template, in YAML or JSON. `file` is its name in problems.
///
/// # Errors
/// All problems, in the order of their lines.
pub fn read(file: &Path, text: &str, parameters: &TemplateParameters) -> Result<Vec<EndpointDefinition>, Vec<Problem>> {
    let in_file = |(line, what, hint): (usize, String, Option<String>)| Problem {
        file: file.to_owned(),
        line,
        column: 1,
        what,
        hint,
    };
    let root = node::parse(text).map_err(|(line, what)| vec![in_file((line, what, None))])?;
    let mut template = Template { parameters, found: Vec::new() };
    let endpoints = template.endpoints(&root);
    if template.found.is_empty() {
        return Ok(endpoints);
    }
    template.found.sort();
    Err(template.found.into_iter().map(in_file).collect())
}

/// A template that is read. Its problems have a line, what is wrong, and a hint.
struct Template<'a> {
    parameters: &'a TemplateParameters,
    found: Vec<(usize, String, Option<String>)>,
}

impl Template<'_> {
    fn problem(&mut self, line: usize, what: impl Into<String>, hint: Option<&str>) {
        self.found.push((line, what.into(), hint.map(str::to_owned)));
    }

    fn endpoints(&mut self, root: &Node) -> Vec<EndpointDefinition> {
        for (key, value) in root.entries().iter().filter(|(key, _)| !SECTIONS.contains(&key.as_str())) {
            self.problem(value.line, format!("the section {key} is not supported here"), None);
        }
        let resources = self.resources(root);
        if !self.found.is_empty() {
            // What a part that can't be read was needed for would only confuse.
            return Vec::new();
        }
        let named: BTreeMap<&str, &Resource> = resources.iter().map(|one| (one.name.as_str(), one)).collect();
        let endpoints = resources.iter().filter(|one| one.kind == ENDPOINT);
        let endpoints: Vec<EndpointDefinition> = endpoints.filter_map(|one| self.endpoint(one, &named)).collect();
        if endpoints.is_empty() && self.found.is_empty() {
            self.problem(root.line, "the template has no AWS::SageMaker::Endpoint", None);
        }
        endpoints
    }

    fn resources(&mut self, root: &Node) -> Vec<Resource> {
        let empty = Node::empty(root.line);
        let written = root.get("Resources").unwrap_or(&empty);
        let names: Vec<String> = written.entries().iter().map(|(name, _)| name.clone()).collect();
        let parameters = resolve::parameters(root.get("Parameters"), self.parameters, &mut self.found);
        let resolver = Resolver { parameters, resources: names };
        self.check_circles(written, &resolver);
        let mut resources = Vec::new();
        for (name, resource) in written.entries() {
            let kind = resource.get("Type").and_then(Node::text).unwrap_or_default();
            if IGNORED.iter().any(|ignored| kind.starts_with(ignored)) {
                continue;
            }
            if ![MODEL, CONFIG, ENDPOINT].contains(&kind.as_str()) {
                let hint = "only SageMaker's Model, EndpointConfig and Endpoint are made here";
                self.problem(resource.line, format!("the resource {name} has the type {kind:?}"), Some(hint));
                continue;
            }
            for (key, value) in resource.entries() {
                if !["Type", "Properties", "DependsOn", "Metadata", "DeletionPolicy", "UpdateReplacePolicy"]
                    .contains(&key.as_str())
                {
                    self.problem(value.line, format!("{key} of the resource {name} is not supported here"), None);
                }
            }
            let properties = resource.get("Properties").unwrap_or(&empty);
            match resolver.resolve(properties) {
                Ok(properties) => {
                    resources.push(Resource { name: name.clone(), kind, line: resource.line, properties });
                }
                Err((line, what)) => self.problem(line, what, None),
            }
        }
        resources
    }

    /// Reports resources that need each other.
    fn check_circles(&mut self, written: &Node, resolver: &Resolver) {
        let needs: BTreeMap<&String, Vec<String>> =
            written.entries().iter().map(|(name, resource)| (name, resolver.needs(resource))).collect();
        for (name, resource) in written.entries() {
            let mut path = vec![name];
            let mut at = name;
            // Each step is along the first need that leads back; a circle has at most all resources.
            while let Some(next) = needs.get(at).and_then(|all| all.iter().find(|next| leads(&needs, next, name))) {
                let Some((next, _)) = needs.get_key_value(next) else { break };
                if *next == name {
                    let names: Vec<&str> = path.iter().chain([&name]).map(|name| name.as_str()).collect();
                    self.problem(resource.line, format!("the resources need each other: {}", names.join(" -> ")), None);
                    return;
                }
                if path.contains(next) {
                    break;
                }
                path.push(next);
                at = next;
            }
        }
    }

    fn endpoint(&mut self, resource: &Resource, named: &BTreeMap<&str, &Resource>) -> Option<EndpointDefinition> {
        let known = ["EndpointName", "EndpointConfigName", "Tags", "DeploymentConfig", "RetainAllVariantProperties"];
        self.check_keys(&resource.properties, &known, &resource.name);
        let name = match resource.properties.get("EndpointName") {
            Some(name) => name.text()?,
            None => format!("{}-{}", self.parameters.stack, resource.name),
        };
        if !super::is_name(&name) {
            let hint = "a name has up to 63 letters, digits and -: write EndpointName, or another --stack";
            self.problem(resource.line, format!("{name:?} is not an endpoint's name"), Some(hint));
        }
        let config = self.referenced(resource, "EndpointConfigName", CONFIG, named)?;
        let known = [
            "EndpointConfigName",
            "ProductionVariants",
            "ShadowProductionVariants",
            "Tags",
            "KmsKeyId",
            "VpcConfig",
            "ExecutionRoleArn",
        ];
        self.check_keys(&config.properties, &known, &config.name);
        let mut variants = Vec::new();
        for (key, is_shadow) in [("ProductionVariants", false), ("ShadowProductionVariants", true)] {
            for variant in config.properties.get(key).map(Node::items).unwrap_or_default() {
                variants.extend(self.variant(variant, is_shadow, config, named));
            }
        }
        if variants.is_empty() {
            self.problem(config.line, format!("{} has no ProductionVariants", config.name), None);
        }
        Some(EndpointDefinition { name, variants })
    }

    fn variant(
        &mut self,
        written: &Node,
        is_shadow: bool,
        config: &Resource,
        named: &BTreeMap<&str, &Resource>,
    ) -> Option<VariantDefinition> {
        let known = [
            "VariantName",
            "ModelName",
            "InitialVariantWeight",
            "InitialInstanceCount",
            "InstanceType",
            "AcceleratorType",
            "ServerlessConfig",
            "VolumeSizeInGB",
            "ContainerStartupHealthCheckTimeoutInSeconds",
            "ModelDataDownloadTimeoutInSeconds",
        ];
        self.check_keys(written, &known, &config.name);
        let name = written.get("VariantName").and_then(Node::text).unwrap_or_else(|| "AllTraffic".to_owned());
        let weight = match written.get("InitialVariantWeight").map(|weight| (weight.line, weight.text())) {
            None => 1.0,
            Some((line, text)) => {
                let weight = text.as_deref().unwrap_or_default().parse::<f64>();
                weight.ok().filter(|weight| *weight >= 0.0 && weight.is_finite()).unwrap_or_else(|| {
                    self.problem(line, "InitialVariantWeight must be a number from 0 on", None);
                    1.0
                })
            }
        };
        let holder = Resource {
            name: config.name.clone(),
            kind: CONFIG.to_owned(),
            line: written.line,
            properties: written.clone(),
        };
        let model = self.referenced(&holder, "ModelName", MODEL, named)?;
        let known = [
            "ModelName",
            "PrimaryContainer",
            "Containers",
            "ExecutionRoleArn",
            "Tags",
            "VpcConfig",
            "EnableNetworkIsolation",
        ];
        self.check_keys(&model.properties, &known, &model.name);
        let mut containers: Vec<&Node> =
            model.properties.get("Containers").map(Node::items).unwrap_or_default().iter().collect();
        containers.extend(model.properties.get("PrimaryContainer"));
        let [container] = containers[..] else {
            self.problem(model.line, format!("{} needs one container", model.name), None);
            return None;
        };
        self.check_keys(
            container,
            &["Image", "ModelDataUrl", "Environment", "Mode", "ContainerHostname", "ImageConfig"],
            &model.name,
        );
        let Some(image) = container.get("Image").and_then(Node::text) else {
            self.problem(container.line, format!("the container of {} has no Image", model.name), None);
            return None;
        };
        let environment = container.get("Environment").map(Node::entries).unwrap_or_default().iter();
        let environment = environment.filter_map(|(name, value)| Some((name.clone(), value.text()?))).collect();
        let data = container.get("ModelDataUrl").and_then(Node::text);
        Some(VariantDefinition { name, image: Some(image), data, environment, weight, is_shadow })
    }

    /// The resource of a type that a property names, by reference or by the name that the template gives it.
    fn referenced<'r>(
        &mut self,
        resource: &Resource,
        key: &str,
        kind: &str,
        named: &BTreeMap<&str, &'r Resource>,
    ) -> Option<&'r Resource> {
        let Some(written) = resource.properties.get(key) else {
            self.problem(resource.line, format!("{} has no {key}", resource.name), None);
            return None;
        };
        let found = match &written.value {
            Value::Reference(name) => named.get(name.as_str()).copied(),
            _ => {
                let text = written.text();
                named
                    .values()
                    .copied()
                    .find(|one| one.kind == kind && one.properties.get(key).and_then(Node::text) == text)
            }
        };
        let found = found.filter(|found| found.kind == kind);
        if found.is_none() {
            let what = format!("{key} of {} names no {kind} of the template", resource.name);
            self.problem(written.line, what, Some("write !Ref or !GetAtt with the name of the resource"));
        }
        found
    }

    fn check_keys(&mut self, node: &Node, known: &[&str], resource: &str) {
        for (key, value) in node.entries().iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            self.problem(value.line, format!("{key} of {resource} is not supported here"), None);
        }
    }
}

/// Whether a chain of needs leads from one resource to another.
fn leads(needs: &BTreeMap<&String, Vec<String>>, from: &String, to: &String) -> bool {
    let (mut to_visit, mut seen) = (vec![from], Vec::new());
    while let Some(name) = to_visit.pop() {
        if name == to {
            return true;
        }
        if !seen.contains(&name) {
            seen.push(name);
            to_visit.extend(needs.get(name).into_iter().flatten());
        }
    }
    false
}

#[cfg(test)]
mod tests;
