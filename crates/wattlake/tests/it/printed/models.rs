//! The commands of docs/models.md, with a server, a model of three columns and a container that trains.

use super::environment::{PageEnvironment, connection};
use super::text::blocks;
use super::{of_language, prepare};
use crate::models::{TEMPLATE, constant};
use crate::world::Source;

/// Trains without a library: it counts its rows, and leaves a model of one leaf.
const TRAIN: &str = "#!/bin/bash
rows=$(($(wc -l < /opt/ml/input/data/train/data.csv) - 1))
echo \"rmse=1.25; rows=$rows\"
cp /var/task/model.txt /opt/ml/model/model.txt
";

#[test]
fn models_work_as_printed() {
    let (source, mut environment) = (Source::empty(), PageEnvironment::new(true));
    source.execute(
        "create schema platform; create table platform.hydro
             (id int primary key, at timestamptz, flow float8, rain float8, power float8);
         insert into platform.hydro select n, '2026-01-01'::timestamptz + n * interval '1 hour', n, n % 7, 3 * n
         from generate_series(1, 48) as g(n)",
    );
    let toml = prepare(&environment, &source);
    let toml = toml.replace(&connection(&source), &format!("[connections.platform]\nurl = '{}'\n", source.url()));
    let page = blocks("docs/models.md");
    let [endpoint, training, container, _, data] = of_language(&page, "toml")[..] else {
        panic!("docs/models.md has other blocks than this test expects")
    };
    let model = constant(3.25).replace("max_feature_idx=0", "max_feature_idx=2");
    let model =
        model.replace("feature_names=flow", "feature_names=flow rain hour").replace("[0:9]", "[0:9] [0:9] [0:9]");
    for (name, text) in [
        ("warehouse/wattlake.toml", format!("{toml}\n{}", data.text)),
        (
            "warehouse/transfers/platform.toml",
            "source = 'platform'\nmode = 'initial'\ninclude = ['platform.hydro']\n".to_owned(),
        ),
        ("warehouse/endpoints/hydro.toml", endpoint.text.clone()),
        ("warehouse/trainings/hydro.toml", training.text.clone()),
        ("warehouse/containers/scikit/container.toml", container.text.replace("layers", "# layers")),
        ("warehouse/containers/gbm/train", TRAIN.to_owned()),
        ("warehouse/containers/gbm/model.txt", model.clone()),
        ("warehouse/artifacts/model.txt", model),
        ("hydro.yaml", TEMPLATE.to_owned()),
    ] {
        environment.write(name, &text);
    }
    let train = environment.warehouse().join("containers/gbm/train");
    std::fs::set_permissions(train, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let transferred = environment.run("wattlake -C warehouse transfer run platform");
    assert_eq!(transferred.code, 0, "{}", transferred.text());
    environment.keep_server();
    let mut printed = String::new();
    for block in &page {
        match block.language.as_str() {
            "python" => environment.python(block),
            "sql" => {
                let ran = environment.run(&format!("wattlake -C warehouse sql \"{}\"", block.text));
                assert_eq!(ran.code, 0, "{}: {}", block.place, ran.text());
                printed += &ran.out;
            }
            _ => environment.run_block(block).iter().for_each(|said| printed += &said.out),
        }
    }
    for expected in ["endpoint hydro is in service after", "3.25", "version 1 of model hydro", "rmse 1.25"] {
        assert!(printed.contains(expected), "{expected} is not in:\n{printed}");
    }
}
