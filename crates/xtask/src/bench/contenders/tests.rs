use super::*;

#[test]
fn names_in_options_and_results_are_equal() {
    for contender in Contender::value_variants() {
        let value = contender.to_possible_value().unwrap();
        assert_eq!(value.get_name(), contender.name());
    }
}
