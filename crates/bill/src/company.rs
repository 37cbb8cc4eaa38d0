//! Who sells and who buys on an invoice, with the numbers of French companies checked.

use serde::Deserialize;

use crate::{Error, Kind, Result};

/// A company on an invoice.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Company {
    /// Its name.
    pub name: String,
    /// Its SIREN number, 9 digits.
    pub siren: String,
    /// Its VAT number.
    pub vat_number: Option<String>,
    /// Street and number.
    pub address: Option<String>,
    /// The postcode.
    pub postcode: Option<String>,
    /// The city.
    pub city: Option<String>,
    /// Legal form, capital and register.
    pub legal: Option<String>,
    /// The account to which it is paid.
    pub iban: Option<String>,
}

impl Company {
    /// Checks the numbers, and computes the VAT number where it is not given.
    ///
    /// # Errors
    /// `FixInput` where the SIREN or VAT number is not valid, or the two don't belong together.
    pub fn checked(mut self) -> Result<Company> {
        let refuse = |what: String| Error::new(Kind::FixInput, format!("identify {}: {what}", self.name));
        if !is_siren(&self.siren) {
            return Err(refuse(format!("{:?} is not a SIREN number", self.siren)));
        }
        let expected = french_vat_number(&self.siren);
        match self.vat_number.as_deref().map(|text| text.replace(' ', "")) {
            Some(given) if given.starts_with("FR") && given != expected => {
                return Err(refuse(format!(
                    "the VAT number {given:?} is not the one of SIREN {}, {expected}",
                    self.siren
                )));
            }
            Some(given) => self.vat_number = Some(given),
            None => self.vat_number = Some(expected),
        }
        Ok(self)
    }
}

/// Whether a text is a SIREN number: nine digits whose last one is right by Luhn's algorithm.
pub fn is_siren(text: &str) -> bool {
    text.len() == 9 && has_check_digit(text)
}

/// Whether a text is a SIRET number: a SIREN number and five more digits, of which the last one is right by the same
/// algorithm; those of La Poste have another rule, and are not told apart.
pub fn is_siret(text: &str) -> bool {
    text.len() == 14 && is_siren(&text[..9]) && (has_check_digit(text) || text.starts_with("356000000"))
}

fn has_check_digit(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(10)).collect();
    let digit = |(at, digit): (usize, &u32)| if at % 2 == 1 { doubled(*digit) } else { *digit };
    let sum: u32 = digits.iter().rev().enumerate().map(digit).sum();
    digits.len() == text.len() && sum > 0 && sum.is_multiple_of(10)
}

fn doubled(digit: u32) -> u32 {
    if digit > 4 { 2 * digit - 9 } else { 2 * digit }
}

/// The VAT number of a French company: its key is 12 + 3 x (SIREN modulo 97), modulo 97.
fn french_vat_number(siren: &str) -> String {
    let number: u64 = siren.parse().unwrap_or_default();
    format!("FR{:02}{siren}", (12 + 3 * (number % 97)) % 97)
}

#[cfg(test)]
mod tests {
    use super::{Company, is_siren, is_siret};

    #[test]
    fn numbers_of_french_companies_are_checked() {
        // EDF, whose VAT number is on its invoices.
        assert!(is_siren("552081317") && !is_siren("552081318") && !is_siren("55208131") && !is_siren("000000000"));
        assert!(is_siret("73282932000074") && !is_siret("73282932000075") && !is_siret("73282932100074"));
        let company = |vat: Option<&str>| Company {
            name: "A".to_owned(),
            siren: "552081317".to_owned(),
            vat_number: vat.map(str::to_owned),
            ..Company::default()
        };
        assert_eq!(company(None).checked().expect("a company").vat_number.as_deref(), Some("FR03552081317"));
        assert_eq!(
            company(Some("FR 03 552081317")).checked().expect("a company").vat_number.as_deref(),
            Some("FR03552081317")
        );
        let error = company(Some("FR04552081317")).checked().expect_err("a wrong key");
        assert!(error.to_string().contains("is not the one of SIREN 552081317, FR03552081317"), "{error}");
    }
}
