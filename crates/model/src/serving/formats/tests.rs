use super::*;

const MODEL: &str = "tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=2
objective=regression
feature_names=flow rain river
feature_infos=[0:9] [0:9] 0:1
tree_sizes=1

Tree=0
num_leaves=1
num_cat=0
leaf_value=1
is_linear=0
shrinkage=1


end of trees

pandas_categorical:[[\"Arc\", \"Isère\"]]
";

fn read(body: &str, content_type: &str) -> Result<Vec<Vec<f64>>, String> {
    let model = lightgbm::Model::parse(MODEL).expect("a model");
    let format = Format::of(content_type).expect("a format");
    match rows(&Bytes::copy_from_slice(body.as_bytes()), format, model.columns()) {
        Ok(rows) => {
            let read: Vec<Vec<f64>> = rows.values.chunks(3).map(<[f64]>::to_vec).collect();
            assert_eq!(read.len(), rows.count);
            Ok(read)
        }
        Err(ServingError::Model { status: 400, message }) => Err(message),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn one_row_in_all_shapes() {
    let csv = "text/csv; charset=utf-8";
    let json = "application/json";
    for (body, kind) in [
        ("1.5,2,Arc", csv),
        ("1.5,2,Arc\n", csv),
        ("flow,rain,river\n1.5,2,Arc\n", csv),
        ("river,flow,rain\r\nArc,1.5,2\r\n", csv),
        ("1,5;2;Arc", csv),
        ("\u{feff}flow;rain;river\n1,5;2;\"Arc\"\n", csv),
        ("[1.5, 2, \"Arc\"]", json),
        ("[[1.5, 2, \"Arc\"]]", json),
        ("{\"instances\": [[1.5, 2, \"Arc\"]]}", json),
        ("{\"instances\": [{\"features\": [1.5, 2, \"Arc\"]}]}", json),
        ("{\"instances\": [{\"data\": {\"features\": {\"values\": [1.5, 2, \"Arc\"]}}}]}", json),
        ("{\"instances\": [{\"river\": \"Arc\", \"rain\": 2, \"flow\": 1.5}]}", json),
        ("{\"dataframe_records\": [{\"river\": \"Arc\", \"rain\": 2, \"flow\": 1.5}]}", json),
        ("{\"dataframe_split\": {\"columns\": [\"rain\", \"flow\", \"river\"], \"data\": [[2, 1.5, \"Arc\"]]}}", json),
        ("{\"inputs\": [[1.5, 2, \"Arc\"]]}", json),
        ("{\"features\": [1.5, 2, \"Arc\"]}\n\n", "application/jsonlines"),
    ] {
        assert_eq!(read(body, kind), Ok(vec![vec![1.5, 2.0, 0.0]]), "{body}");
    }
}

#[test]
fn what_is_not_there_is_missing() {
    for (body, kind) in [
        (",2,Isère", "text/csv"),
        ("rain,river\n2,Isère", "text/csv"),
        ("{\"instances\": [[null, 2, \"Isère\"]]}", "application/json"),
        ("{\"instances\": [{\"rain\": 2, \"river\": \"Isère\"}]}", "application/json"),
    ] {
        let rows = read(body, kind).expect("a row");
        assert!(rows[0][0].is_nan() && rows[0][1..] == [2.0, 1.0], "{body}: {rows:?}");
    }
    assert!(read("1,2,Drac", "text/csv").expect("a row")[0][2].is_nan());
}

#[test]
fn errors_name_the_row_and_the_column() {
    for (body, kind, expected) in [
        ("", "text/csv", "the request has no rows"),
        ("1,2", "text/csv", "row 1 has 2 values, the model has 3 columns"),
        ("1,2,Arc\nx,2,Arc", "text/csv", "line 2: the value \"x\" of column \"flow\" is not a number"),
        ("flow,rian\n1,2", "text/csv", "line 1: the model has no column \"rian\"; nearest column: \"rain\""),
        ("{\"instances\": [{\"rian\": 2}]}", "application/json", "row 1: the model has no column \"rian\""),
        ("{\"instances\": [[1, 2, \"Arc\"], [1, {}, \"Arc\"]]}", "application/json", "row 2: the value \"{}\""),
        ("{\"instances\": 1}", "application/json", "the body must be"),
        ("{\"instances\": [", "application/json", "the body is no JSON"),
        ("{\"instances\": []}", "application/json", "the request has no rows"),
        ("{\"instances\": [[1, 2, \"Arc\"], 7]}", "application/json", "row 2 is neither a list nor an object"),
        ("[1]\n[", "application/jsonlines", "row 1 has 1 values"),
    ] {
        let message = read(body, kind).expect_err("refused");
        assert!(message.contains(expected), "{body}: {message}");
    }
}

#[test]
fn answers_have_the_format_that_is_accepted() {
    let text = |values: &[f64], outputs, format| String::from_utf8(answer(values, outputs, format).body.to_vec());
    assert_eq!(text(&[1.5, 2.0], 1, Format::Csv).expect("a text"), "1.5\n2.0\n");
    assert_eq!(text(&[1.5, 2.0], 1, Format::Json).expect("a text"), "{\"predictions\": [1.5, 2.0]}");
    assert_eq!(text(&[0.5, 0.5], 2, Format::Json).expect("a text"), "{\"predictions\": [[0.5,0.5]]}");
    assert_eq!(text(&[0.5, 0.5], 2, Format::JsonLines).expect("a text"), "[0.5,0.5]\n");
    assert_eq!(answer_format(None, Format::Csv), Ok(Format::Csv));
    assert_eq!(answer_format(Some("*/*"), Format::Csv), Ok(Format::Csv));
    assert_eq!(answer_format(Some("image/png, application/json;q=0.5"), Format::Csv), Ok(Format::Json));
    assert!(matches!(answer_format(Some("image/png"), Format::Csv), Err(ServingError::Model { status: 406, .. })));
}

#[test]
fn numbers_are_exact_and_names_are_unique() {
    // The nearest float is another one than a reader that rounds twice finds.
    let written = "1939.7440851520657";
    let read_one = |body: &str, kind: &str| read(body, kind).expect("rows")[0][0].to_bits();
    let expected = written.parse::<f64>().expect("a number").to_bits();
    assert_eq!(read_one(&format!("[[{written}, 1, \"Arc\"]]"), "application/json"), expected);
    assert_eq!(read_one(&format!("[{written}, 1, \"Arc\"]"), "application/jsonlines"), expected);
    for (body, kind) in [
        ("[{\"flow\": 1, \"flow\": 2}]", "application/json"),
        ("{\"dataframe_split\": {\"columns\": [\"flow\", \"flow\"], \"data\": [[1, 2]]}}", "application/json"),
        ("flow,rain,rain\n1,2,3\n", "text/csv"),
    ] {
        let refused = read(body, kind).expect_err("it is refused");
        assert!(refused.contains("is named twice"), "{refused}");
    }
    // Flags as Python writes them.
    assert_eq!(read("True,False,Arc\n", "text/csv").expect("rows"), vec![vec![1.0, 0.0, 0.0]]);
    assert_eq!(read("[[true, false, \"Arc\"]]", "application/json").expect("rows"), vec![vec![1.0, 0.0, 0.0]]);
}
