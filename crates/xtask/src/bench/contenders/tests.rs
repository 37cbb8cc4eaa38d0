use super::*;

#[test]
fn a_contender_has_one_name_for_the_option_and_the_result() {
    for contender in Contender::value_variants() {
        let value = contender.to_possible_value().unwrap();
        assert_eq!(value.get_name(), contender.name());
    }
}
