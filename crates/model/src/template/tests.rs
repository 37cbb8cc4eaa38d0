use super::*;

/// A template as users have it: parameters, a role, short and long forms of functions.
const TEMPLATE: &str = "
AWSTemplateFormatVersion: '2010-09-09'
Description: Hydro production
Parameters:
  Stage: { Type: String, Default: prod, AllowedValues: [prod, test] }
  Bucket: { Type: String }
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties: { AssumeRolePolicyDocument: { Version: '2012-10-17' } }
  Model:
    Type: AWS::SageMaker::Model
    Properties:
      ExecutionRoleArn: !GetAtt Role.Arn
      PrimaryContainer:
        Image: !Sub '${AWS::AccountId}.dkr.ecr.${AWS::Region}.amazonaws.com/hydro:${Stage}'
        ModelDataUrl: !Join ['/', ['s3:/', !Ref Bucket, 'hydro', model.tar.gz]]
        Environment:
          STAGE: !Ref Stage
          WORKERS: 2
          LITERAL: !Sub '${!HOME}/${name}-${Role}'
          NOTHING: !Ref AWS::NoValue
  Config:
    Type: AWS::SageMaker::EndpointConfig
    Properties:
      ProductionVariants:
        - VariantName: main
          ModelName: !GetAtt Model.ModelName
          InitialInstanceCount: 1
          InstanceType: ml.t2.medium
          InitialVariantWeight: 0.5
  Endpoint:
    Type: AWS::SageMaker::Endpoint
    Properties:
      EndpointName: hydro
      EndpointConfigName: { 'Fn::GetAtt': [Config, EndpointConfigName] }
Outputs:
  Url: { Value: !Ref Endpoint }
";

fn given(values: &[(&str, &str)]) -> TemplateParameters {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    TemplateParameters { stack: "power".to_owned(), values: values.collect() }
}

fn problems(text: &str) -> Vec<String> {
    let read = read(Path::new("hydro.yaml"), text, &given(&[("Bucket", "models")]));
    read.expect_err("problems").iter().map(ToString::to_string).collect()
}

#[test]
fn a_template_declares_its_endpoints() {
    let text = TEMPLATE.replace("${name}-${Role}", "x");
    let endpoints = read(Path::new("t"), &text, &given(&[("Bucket", "models"), ("Stage", "test")])).expect("endpoints");
    let [endpoint] = &endpoints[..] else { panic!("{endpoints:?}") };
    assert_eq!(endpoint.name, "hydro");
    let [variant] = &endpoint.variants[..] else { panic!("{endpoint:?}") };
    assert_eq!(variant.image.as_deref(), Some("000000000000.dkr.ecr.local.amazonaws.com/hydro:test"));
    assert_eq!(variant.data.as_deref(), Some("s3://models/hydro/model.tar.gz"));
    assert_eq!((variant.name.as_str(), variant.weight, variant.is_shadow), ("main", 0.5, false));
    let environment: Vec<(&str, &str)> = variant.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(environment, [("LITERAL", "${HOME}/x"), ("STAGE", "test"), ("WORKERS", "2")]);
}

#[test]
fn json_is_read_too_and_an_endpoint_without_a_name_gets_one() {
    let text = r#"{"Resources": {
        "M": {"Type": "AWS::SageMaker::Model", "Properties": {"ModelName": "hydro", "Containers": [{"Image": "a"}]}},
        "C": {"Type": "AWS::SageMaker::EndpointConfig", "Properties": {"ProductionVariants": [
            {"VariantName": "main", "ModelName": "hydro"}],
            "ShadowProductionVariants": [{"VariantName": "next", "ModelName": {"Ref": "M"}}]}},
        "E": {"Type": "AWS::SageMaker::Endpoint", "Properties": {"EndpointConfigName": {"Ref": "C"}}}}}"#;
    let endpoints = read(Path::new("t"), text, &given(&[])).expect("endpoints");
    assert_eq!(endpoints[0].name, "power-E");
    let shadows: Vec<bool> = endpoints[0].variants.iter().map(|variant| variant.is_shadow).collect();
    assert_eq!(shadows, [false, true]);
}

#[test]
fn what_is_not_supported_is_named_with_its_line() {
    let text = TEMPLATE.replace("${name}-${Role}", "x");
    assert_eq!(
        problems(&TEMPLATE.replace("${name}", "${Roel}")),
        ["hydro.yaml:21:1: the template has no parameter or resource \"Roel\"; nearest name: \"Role\""]
    );
    for (from, to, expected) in [
        (
            "Bucket: { Type: String }",
            "Other: { Type: String }",
            "the parameter Other has no value; write --parameter Other=VALUE",
        ),
        ("Default: prod", "Default: dev", "the parameter Stage is \"dev\": allowed are prod, test"),
        ("AWS::IAM::Role", "AWS::S3::Bucket", "the resource Role has the type \"AWS::S3::Bucket\""),
        ("      EndpointName: hydro\n", "      DataTrace: 1\n", "DataTrace of Endpoint is not supported here"),
        ("!Ref Stage", "!ImportValue Stage", "the function Fn::ImportValue is not supported here"),
        ("!GetAtt Model.ModelName", "other", "ModelName of Config names no AWS::SageMaker::Model of the template"),
        ("Outputs:", "Conditions:", "the section Conditions is not supported here"),
        ("InitialVariantWeight: 0.5", "InitialVariantWeight: -1", "InitialVariantWeight must be a number from 0 on"),
        ("      EndpointName: hydro\n", "      EndpointName: hydro_1\n", "\"hydro_1\" is not an endpoint's name"),
        ("        Image:", "        Imge:", "Imge of Model is not supported here"),
    ] {
        assert!(text.contains(from), "{from}");
        let found = problems(&text.replacen(from, to, 1));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{to}: {found:?}");
    }
    assert!(problems("Resources: [")[0].contains("neither YAML nor JSON"));
    assert!(problems("[]")[0].contains("must be a map"));
    let none = read(Path::new("t"), "Resources: {}", &given(&[])).expect_err("no endpoint");
    assert!(none[0].what.contains("has no AWS::SageMaker::Endpoint"), "{none:?}");
}

#[test]
fn resources_that_need_each_other_are_refused() {
    let text = TEMPLATE.replace("${name}-${Role}", "${Endpoint}");
    let found = problems(&text);
    assert!(found.iter().any(|problem| problem.contains("need each other: Model -> ")), "{found:?}");
    // Aliases of aliases.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..8 {
        let below = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", ")));
    }
    assert!(!problems(&bomb).is_empty());
}
