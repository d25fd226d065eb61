// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "ynlgen/emit.h"
#include "ynlgen/names.h"
#include "ynlgen/spec.h"

namespace handshake::ynlgen {
namespace {

/// A small spec, one property a line, so that a test can change one and name its line.
constexpr std::string_view kSpec = R"(name: sample
protocol: genetlink
doc: A sample.
definitions:
  - {type: const, name: limit, value: 10}
  - {type: enum, name: colour, value-start: 0, entries: [red, green]}
attribute-sets:
  - name: inner
    attributes:
      - {name: a, type: u32}
  - name: main
    attributes:
      - {name: b, type: u32}
      - {name: c, type: string}
      - {name: d, type: nest, nested-attributes: inner}
operations:
  list:
    - {name: get, doc: Gets., attribute-set: main, do: {request: {attributes: [b]}}}
mcast-groups:
  list:
    - {name: group}
)";
constexpr std::string_view kB = "{name: b, type: u32}";
constexpr std::string_view kC = "{name: c, type: string}";
constexpr std::string_view kD = "{name: d, type: nest, nested-attributes: inner}";
constexpr std::string_view kGet =
    "{name: get, doc: Gets., attribute-set: main, do: {request: {attributes: [b]}}}";
constexpr std::string_view kColour =
    "{type: enum, name: colour, value-start: 0, entries: [red, green]}";
constexpr std::string_view kLimit = "{type: const, name: limit, value: 10}";

std::string changed(std::string_view from, std::string_view to) {
  std::string text(kSpec);
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

Result<Model> assemble_one(std::string_view text) {
  Result<Spec> spec = load_spec(text, "s.yaml");
  if (!spec) return tl::unexpected<Error>(spec.error());
  std::vector<Input> inputs;
  inputs.push_back(Input{"sample", "", std::move(*spec)});
  return assemble(std::move(inputs));
}

struct Case {
  const char* what;
  std::string_view from;
  std::string_view to;
  ErrorKind kind;
  std::string_view message;   ///< the whole of it
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.what; }

class Refused : public testing::TestWithParam<Case> {};

TEST_P(Refused, ByFileLineAndName) {
  const Case& c = GetParam();
  const Result<Model> model = assemble_one(changed(c.from, c.to));
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().detail, c.message);
  EXPECT_EQ(model.error().kind, c.kind);
}

std::string case_name(const testing::TestParamInfo<Case>& info) { return info.param.what; }

constexpr ErrorKind kUnsupported = ErrorKind::kNotSupported;
constexpr ErrorKind kInvalid = ErrorKind::kInvalidArgument;

/// What the language has and ynlgen has not.
const Case kNotSupportedCases[] = {
    {"AnotherProtocol", "protocol: genetlink", "protocol: netlink-raw", kUnsupported,
     "s.yaml:2: sample: protocol netlink-raw: not supported"},
    {"UapiHeader", "doc: A sample.", "doc: A sample.\nuapi-header: linux/sample.h", kUnsupported,
     "s.yaml:4: spec: key uapi-header: not supported"},
    {"KernelFamily", "doc: A sample.", "doc: A sample.\nkernel-family: {}", kUnsupported,
     "s.yaml:4: spec: key kernel-family: not supported"},
    {"KernelPolicy", "doc: A sample.", "doc: A sample.\nkernel-policy: global", kUnsupported,
     "s.yaml:4: spec: key kernel-policy: not supported"},
    {"VersionOutsideLegacy", "doc: A sample.", "doc: A sample.\nversion: 2", kUnsupported,
     "s.yaml:4: sample: version outside genetlink-legacy: not supported"},
    {"Struct", kLimit, "{type: struct, name: limit, members: []}", kUnsupported,
     "s.yaml:5: limit: definition type 'struct': not supported"},
    {"ConstHeader", kLimit, "{type: const, name: limit, value: 1, header: linux/err.h}",
     kUnsupported, "s.yaml:5: limit: key header: not supported"},
    {"Scope", kLimit, "{type: const, name: limit, value: 1, scope: kernel}", kUnsupported,
     "s.yaml:5: limit: key scope: not supported"},
    {"RenderMax", kColour, "{type: enum, name: colour, entries: [red], render-max: true}",
     kUnsupported, "s.yaml:6: colour: key render-max: not supported"},
    {"EnumName", kColour, "{type: enum, name: colour, entries: [red], enum-name: x}", kUnsupported,
     "s.yaml:6: colour: key enum-name: not supported"},
    {"SubsetOf", "  - name: inner\n", "  - name: inner\n    subset-of: main\n", kUnsupported,
     "s.yaml:9: inner: key subset-of: not supported"},
    {"NamePrefix", "  - name: inner\n", "  - name: inner\n    name-prefix: x-\n", kUnsupported,
     "s.yaml:9: inner: key name-prefix: not supported"},
    {"TypeUint", kB, "{name: b, type: uint}", kUnsupported,
     "s.yaml:13: b: type 'uint': not supported"},
    {"TypeSint", kB, "{name: b, type: sint}", kUnsupported,
     "s.yaml:13: b: type 'sint': not supported"},
    {"TypeBitfield32", kB, "{name: b, type: bitfield32}", kUnsupported,
     "s.yaml:13: b: type 'bitfield32': not supported"},
    {"TypeUnused", kB, "{name: b, type: unused}", kUnsupported,
     "s.yaml:13: b: type 'unused': not supported"},
    {"NoType", kB, "{name: b}", kUnsupported, "s.yaml:13: b: type '': not supported"},
    {"ByteOrder", kB, "{name: b, type: u32, byte-order: big-endian}", kUnsupported,
     "s.yaml:13: b: key byte-order: not supported"},
    {"DisplayHint", kB, "{name: b, type: u32, display-hint: hex}", kUnsupported,
     "s.yaml:13: b: key display-hint: not supported"},
    {"AttributeStruct", kB, "{name: b, type: binary, struct: x}", kUnsupported,
     "s.yaml:13: b: key struct: not supported"},
    {"FlagsMask", kB, "{name: b, type: u32, checks: {flags-mask: x}}", kUnsupported,
     "s.yaml:13: b: key flags-mask: not supported"},
    {"ExactLen", kB, "{name: b, type: binary, checks: {exact-len: 4}}", kUnsupported,
     "s.yaml:13: b: key exact-len: not supported"},
    {"UnterminatedOk", kC, "{name: c, type: string, checks: {unterminated-ok: true}}", kUnsupported,
     "s.yaml:14: c: key unterminated-ok: not supported"},
    {"MinLenOfAString", kC, "{name: c, type: string, checks: {min-len: 1}}", kUnsupported,
     "s.yaml:14: c: check min-len with type string: not supported"},
    {"MaxOfAString", kC, "{name: c, type: string, checks: {max: 1}}", kUnsupported,
     "s.yaml:14: c: check max with type string: not supported"},
    {"MaxLenOfANumber", kB, "{name: b, type: u32, checks: {max-len: 1}}", kUnsupported,
     "s.yaml:13: b: check max-len with type u32: not supported"},
    {"NestWithoutSet", kD, "{name: d, type: nest}", kUnsupported,
     "s.yaml:15: d: no nested-attributes with type nest: not supported"},
    {"SetWithoutNest", kB, "{name: b, type: u32, nested-attributes: inner}", kUnsupported,
     "s.yaml:13: b: nested-attributes with type u32: not supported"},
    {"ArrayOfNumbers", kD, "{name: d, type: indexed-array, sub-type: u32}", kUnsupported,
     "s.yaml:15: d: type indexed-array with sub-type 'u32': not supported\n"
     "s.yaml:15: d: no nested-attributes with type indexed-array: not supported"},
    {"NestTypeValueOutsideLegacy", kD,
     "{name: d, type: nest-type-value, type-value: [x], nested-attributes: inner}", kUnsupported,
     "s.yaml:15: d: nest-type-value outside genetlink-legacy: not supported"},
    {"RepeatedFlag", kB, "{name: b, type: flag, multi-attr: true}", kUnsupported,
     "s.yaml:13: b: multi-attr with type flag: not supported"},
    {"EnumOfAString", kC, "{name: c, type: string, enum: colour}", kUnsupported,
     "s.yaml:14: c: enum with type string: not supported"},
    {"ChecksBesideEnum", kB, "{name: b, type: u32, enum: colour, checks: {max: 1}}", kUnsupported,
     "s.yaml:13: b: checks beside enum: not supported"},
    {"EnumWithGapsInAPolicy",
     "{type: enum, name: colour, value-start: 0, entries: [red, green]}\n"
     "attribute-sets:\n  - name: inner\n    attributes:\n      - {name: a, type: u32}",
     "{type: enum, name: colour, entries: [red, {name: green, value: 5}]}\n"
     "attribute-sets:\n  - name: inner\n    attributes:\n      - {name: a, type: u32, enum: colour}",
     kUnsupported, "s.yaml:10: a: enum colour with gaps: not supported"},
    {"SetInItself", "{name: a, type: u32}", "{name: a, type: nest, nested-attributes: inner}",
     kUnsupported, "s.yaml:8: inner: an attribute set that contains itself: not supported"},
    {"DirectionalOutsideLegacy", "operations:\n  list:", "operations:\n  enum-model: directional\n  list:",
     kUnsupported,
     "s.yaml:17: operations: enum-model directional: not supported\n"
     "s.yaml:19: get: no value"},
    {"FixedHeader", "operations:\n", "operations:\n  fixed-header: x\n", kUnsupported,
     "s.yaml:17: operations: key fixed-header: not supported"},
    {"OperationsNamePrefix", "operations:\n", "operations:\n  name-prefix: x-\n", kUnsupported,
     "s.yaml:17: operations: key name-prefix: not supported"},
    {"Notify", kGet, "{name: get, doc: Gets., attribute-set: main, notify: other}", kUnsupported,
     "s.yaml:18: get: key notify: not supported\n"
     "s.yaml:18: get: neither do, dump nor event"},
    {"DontValidate", "doc: Gets.,", "doc: Gets., dont-validate: [strict],", kUnsupported,
     "s.yaml:18: get: key dont-validate: not supported"},
    {"ConfigCond", "doc: Gets.,", "doc: Gets., config-cond: net,", kUnsupported,
     "s.yaml:18: get: key config-cond: not supported"},
    {"UnsAdminPerm", "doc: Gets.,", "doc: Gets., flags: [uns-admin-perm],", kUnsupported,
     "s.yaml:18: get: flag 'uns-admin-perm': not supported"},
    {"PreHook", "{request: {attributes: [b]}}", "{request: {attributes: [b]}, pre: x}", kUnsupported,
     "s.yaml:18: get: key pre: not supported"},
    {"DoWithoutRequest", "{request: {attributes: [b]}}", "{reply: {attributes: [b]}}", kUnsupported,
     "s.yaml:18: get: do without request: not supported"},
    {"EventBesideDo", "do: {", "event: {attributes: [b]}, do: {", kUnsupported,
     "s.yaml:18: get: event beside do or dump: not supported"},
    {"GroupWithoutEvent", "doc: Gets.,", "doc: Gets., mcgrp: group,", kUnsupported,
     "s.yaml:18: get: mcgrp without event: not supported"},
    {"ValueOfADirection", "{attributes: [b]}", "{value: 3, attributes: [b]}", kUnsupported,
     "s.yaml:18: get: value without enum-model directional: not supported"},
    {"GroupFlags", "{name: group}", "{name: group, flags: [admin-perm]}", kUnsupported,
     "s.yaml:21: group: key flags: not supported"},
    {"PadInAMessage", kB, "{name: b, type: pad}", kUnsupported,
     "s.yaml:18: get: pad in a message: not supported"},
    {"Anchor", "doc: A sample.", "doc: &x A sample.", kUnsupported,
     "s.yaml:3: anchors (&name): not supported"},
    {"Tag", "doc: A sample.", "doc: !x A sample.", kUnsupported,
     "s.yaml:3: tags (!name): not supported"},
    {"SecondDocument", "    - {name: group}\n", "    - {name: group}\n---\nname: x\n", kUnsupported,
     "s.yaml:22: a second document: not supported"},
};
INSTANTIATE_TEST_SUITE_P(NotSupported, Refused, testing::ValuesIn(kNotSupportedCases), case_name);

/// What is wrong in any reader's eyes.
const Case kMalformedCases[] = {
    {"UnknownKey", "doc: A sample.", "doc: A sample.\ncolour: red", kUnsupported,
     "s.yaml:4: spec: key colour: not supported"},
    {"KeyGivenTwice", "doc: A sample.", "doc: A sample.\ndoc: Another.", kInvalid,
     "s.yaml:4: doc: key given twice"},
    {"KeyGivenTwiceInside", "value: 10", "value: 10, value: 11", kInvalid,
     "s.yaml:5: value: key given twice"},
    {"KeyThatIsAList", "doc: A sample.", "? [doc]\n: A sample.", kInvalid,
     "s.yaml:3: a key that is not a word"},
    {"NestedTooDeep", "doc: A sample.", "doc: [[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]", kInvalid,
     "s.yaml:3: nested more than 16 deep"},
    {"NotYaml", "doc: A sample.", "doc: [A sample.", kInvalid,
     "s.yaml:4: end of sequence flow not found"},
    {"NoName", "name: sample\n", "", kInvalid, "s.yaml:1: spec: no name"},
    {"NameOfAnotherKind", "name: sample", "name: Sample Family", kInvalid,
     "s.yaml:1: spec: 'Sample Family': a name is lower case words and digits joined by dashes"},
    {"NameTooLongForAFamily", "name: sample", "name: sixteen-letters0", kInvalid,
     "s.yaml:1: sixteen-letters0: longer than 15 characters"},
    {"NoDoc", "doc: A sample.\n", "", kInvalid, "s.yaml:1: sample: no doc"},
    {"OperationWithoutDoc", "doc: Gets., ", "", kInvalid, "s.yaml:18: get: no doc"},
    {"ConstWithoutValue", kLimit, "{type: const, name: limit}", kInvalid,
     "s.yaml:5: limit: no value"},
    {"ConstThatIsText", kLimit, "{type: const, name: limit, value: '10'}", kInvalid,
     "s.yaml:5: limit: value: expected a number from 0 to 4294967295"},
    {"ConstThatIsOctal", kLimit, "{type: const, name: limit, value: 010}", kInvalid,
     "s.yaml:5: limit: value: expected a number from 0 to 4294967295"},
    {"ConstTooLarge", kLimit, "{type: const, name: limit, value: 4294967296}", kInvalid,
     "s.yaml:5: limit: value: expected a number from 0 to 4294967295"},
    {"EnumWithoutEntries", kColour, "{type: enum, name: colour, entries: []}", kInvalid,
     "s.yaml:6: colour: no entries"},
    {"EntryTwice", "[red, green]", "[red, red]", kInvalid,
     "s.yaml:6: colour: red = 1: red = 0 came before"},
    {"EntryValueTwice", "[red, green]", "[red, {name: green, value: 0}]", kInvalid,
     "s.yaml:6: colour: green = 0: red = 0 came before"},
    {"DefinitionTwice", kLimit, "{type: const, name: colour, value: 10}", kInvalid,
     "s.yaml:6: colour: definition colour came before at s.yaml:5"},
    {"SetTwice", "name: inner\n", "name: main\n", kInvalid,
     "s.yaml:11: main: attribute set main came before at s.yaml:8\n"
     "s.yaml:15: d: no attribute set inner\n"
     "s.yaml:18: get: no attribute b in main"},
    {"AttributeTwice", kC, "{name: b, type: string}", kInvalid,
     "s.yaml:14: b: attribute b came before at s.yaml:13"},
    {"AttributeNumberTwice", kC, "{name: c, type: string, value: 1}", kInvalid,
     "s.yaml:14: c: number 1 came before at s.yaml:13"},
    {"AttributeNumberZero", kB, "{name: b, type: u32, value: 0}", kInvalid,
     "s.yaml:13: b: value: expected a number from 1 to 16383"},
    {"AttributeNumberTooLarge", kB, "{name: b, type: u32, value: 16384}", kInvalid,
     "s.yaml:13: b: value: expected a number from 1 to 16383"},
    {"AttributeNumberRunsOver", kB, "{name: b, type: u32, value: 16383}", kInvalid,
     "s.yaml:14: c: attribute numbers are 1 to 16383\n"
     "s.yaml:15: d: attribute numbers are 1 to 16383"},
    {"OperationTwice", kGet,
     "{name: get, doc: A., attribute-set: main, do: {request: {attributes: [b]}}}\n"
     "    - {name: get, doc: B., attribute-set: main, do: {request: {attributes: [b]}}}",
     kInvalid, "s.yaml:19: get: operation get came before at s.yaml:18"},
    {"OperationNumberTwice", kGet,
     "{name: get, doc: A., attribute-set: main, do: {request: {attributes: [b]}}}\n"
     "    - {name: put, doc: B., value: 1, attribute-set: main, do: {request: {attributes: [b]}}}",
     kInvalid, "s.yaml:19: put: number 1 came before at s.yaml:18"},
    {"EventNumberTwice", kGet,
     "{name: get, doc: A., attribute-set: main, do: {request: {attributes: [b]}}}\n"
     "    - {name: told, doc: B., value: 1, attribute-set: main, event: {attributes: [b]}}",
     kInvalid, "s.yaml:19: told: number 1 came before at s.yaml:18"},
    {"OperationNumberZero", "doc: Gets.,", "doc: Gets., value: 0,", kInvalid,
     "s.yaml:18: get: value: expected a number from 1 to 255"},
    {"OperationNumberTooLarge", "doc: Gets.,", "doc: Gets., value: 256,", kInvalid,
     "s.yaml:18: get: value: expected a number from 1 to 255"},
    {"NoSuchNestedSet", "nested-attributes: inner", "nested-attributes: outer", kInvalid,
     "s.yaml:15: d: no attribute set outer"},
    {"NoSuchEnum", kB, "{name: b, type: u32, enum: shade}", kInvalid, "s.yaml:13: b: no enum shade"},
    {"EnumThatIsAConst", kB, "{name: b, type: u32, enum: limit}", kInvalid,
     "s.yaml:13: b: no enum limit"},
    {"NoSuchConst", kC, "{name: c, type: string, checks: {max-len: bound}}", kInvalid,
     "s.yaml:14: c: no const bound"},
    {"LimitThatDoesNotFit", kB, "{name: b, type: u8, checks: {max: 256}}", kInvalid,
     "s.yaml:13: b: limit 256 does not fit type u8"},
    {"LimitsTheWrongWayRound", kB, "{name: b, type: u8, checks: {min: 2, max: 1}}", kInvalid,
     "s.yaml:13: b: minimum above maximum"},
    {"NoSuchAttributeSet", "attribute-set: main", "attribute-set: other", kInvalid,
     "s.yaml:18: get: no attribute set other"},
    {"NoSuchAttribute", "[b]", "[b, x]", kInvalid, "s.yaml:18: get: no attribute x in main"},
    {"AttributeListedTwice", "[b]", "[b, b]", kInvalid, "s.yaml:18: get: b: listed twice"},
    {"NoSuchGroup", kGet,
     "{name: told, doc: A., attribute-set: main, event: {attributes: [b]}, mcgrp: others}", kInvalid,
     "s.yaml:18: told: no multicast group others"},
    {"GroupTwice", "{name: group}", "{name: group}\n    - {name: group}", kInvalid,
     "s.yaml:22: group: group given twice"},
    {"BooleanThatIsNone", kB, "{name: b, type: u32, multi-attr: yes}", kInvalid,
     "s.yaml:13: b: multi-attr: expected true or false"},
    {"TwoNamesThatAreOneInCpp", kC, "{name: b-1, type: u32}\n      - {name: b1, type: u32}", kInvalid,
     "s.yaml:15: b1: C++ name B1 came before at s.yaml:14"},
};
INSTANTIATE_TEST_SUITE_P(Malformed, Refused, testing::ValuesIn(kMalformedCases), case_name);

TEST(LoadSpec, ReportsAllProblemsOfAFileAtOnce) {
  std::string text = changed(kB, "{name: b, type: uint}");
  text.replace(text.find(kC), kC.size(), "{name: c, type: string, colour: red}");
  const Result<Model> model = assemble_one(text);
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().detail,
            "s.yaml:13: b: type 'uint': not supported\n"
            "s.yaml:14: c: key colour: not supported");
}

TEST(LoadSpec, AcceptsTheSampleThatTheRefusalsChange) {
  const Result<Model> model = assemble_one(kSpec);
  ASSERT_TRUE(model) << model.error().detail;
  EXPECT_EQ(model->families.size(), 1U);
  EXPECT_EQ(model->definitions.size(), 2U);
}

TEST(LoadSpec, RefusesWhatIsTooLongOrEmpty) {
  EXPECT_FALSE(load_spec(std::string(2U << 20U, '#'), "s.yaml"));
  EXPECT_EQ(load_spec("", "s.yaml").error().detail, "s.yaml:1: empty");
  EXPECT_EQ(load_spec("just text", "s.yaml").error().detail, "s.yaml:1: spec: expected a map");
  std::string many = "name: s\ndoc: d\ndefinitions:\n";
  for (int i = 0; i < 1001; ++i) many += "  - x\n";
  EXPECT_EQ(load_spec(many, "s.yaml").error().detail,
            "s.yaml:1004: more than 1000 items in one list or map");
}

TEST(LoadSpec, NumbersWhatHasNoNumberAsTheLanguageSays) {
  const Result<Model> model = assemble_one(changed(
      kC, "{name: c, type: string, value: 9}\n      - {name: e, type: u32}"));
  ASSERT_TRUE(model) << model.error().detail;
  const AttributeSet& set = *model->families[0].spec.find_set("main");
  EXPECT_EQ(set.find("b")->number, 1);
  EXPECT_EQ(set.find("c")->number, 9);
  EXPECT_EQ(set.find("e")->number, 10);
  EXPECT_EQ(set.find("d")->number, 11);
  EXPECT_EQ(model->families[0].spec.operations[0].do_exchange->request->command, 1);
}

TEST(Assemble, RefusesANestCalledLikeAnEnum) {
  std::string text = changed("name: inner\n", "name: colour\n");
  text.replace(text.find("nested-attributes: inner"), 24, "nested-attributes: colour");
  const Result<Model> model = assemble_one(text);
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().detail, "s.yaml:8: colour: C++ name Colour came before at s.yaml:6");
}

// --- Several specs in one run --------------------------------------------------------------------

Result<Model> assemble_two(std::string_view second, std::string base = "sample") {
  std::vector<Input> inputs;
  inputs.push_back(Input{"sample", "", load_spec(kSpec, "s.yaml").value()});
  Result<Spec> spec = load_spec(second, "t.yaml");
  if (!spec) return tl::unexpected<Error>(spec.error());
  inputs.push_back(Input{"second", std::move(base), std::move(*spec)});
  return assemble(std::move(inputs));
}

TEST(Assemble, RefusesOneEnumWithTwoMeanings) {
  const auto model = assemble_two(
      "name: second\ndoc: d\n"
      "definitions:\n  - {type: enum, name: colour, entries: [green, red]}\n"
      "attribute-sets: []\noperations: {list: []}\n",
      "");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().detail, "t.yaml:4: colour: means something else at s.yaml:6");
}

TEST(Assemble, RefusesAnEnumThatAnExtensionRedefines) {
  const auto model = assemble_two(
      "name: second\ndoc: d\n"
      "definitions:\n  - {type: enum, name: colour, entries: [green, red]}\n"
      "attribute-sets: []\noperations: {list: []}\n");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().detail,
            "t.yaml:4: colour: definition colour came before at s.yaml:6");
}

TEST(Assemble, RefusesAnExtensionThatMovesAnAttribute) {
  const auto model = assemble_two(
      "name: second\ndoc: d\n"
      "attribute-sets:\n  - name: main\n    attributes:\n      - {name: b, type: u32, value: 2}\n"
      "operations: {list: []}\n");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().detail.substr(0, 60),
            "t.yaml:6: b: number, type or multi-attr differs from s.yaml:");
}

TEST(Assemble, RefusesANumberThatTheBaseHas) {
  const auto model = assemble_two(
      "name: second\ndoc: d\n"
      "attribute-sets:\n  - name: main\n    attributes:\n      - {name: new, type: u32, value: 2}\n"
      "operations: {list: []}\n");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().detail, "t.yaml:6: new: number 2 came before at s.yaml:14");
}

TEST(Assemble, RefusesABaseThatIsNotThere) {
  const auto model = assemble_two(
      "name: second\ndoc: d\nattribute-sets: []\noperations: {list: []}\n", "missing");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().detail, "t.yaml:1: second: no spec missing before it to extend");
}

TEST(Assemble, AnExtensionKeepsWhatItDoesNotMention) {
  const auto model = assemble_two(
      "name: second\ndoc: d\n"
      "attribute-sets:\n  - name: main\n    attributes:\n      - {name: new, type: u32, value: 90}\n"
      "operations:\n  list:\n"
      "    - {name: get, doc: More., value: 1, attribute-set: main,"
      " do: {request: {attributes: [new]}, reply: {attributes: [c]}}}\n");
  ASSERT_TRUE(model) << model.error().detail;
  const Spec& spec = model->families[1].spec;
  EXPECT_EQ(spec.groups, std::vector<std::string>{"group"});
  ASSERT_EQ(spec.operations.size(), 1U);
  EXPECT_EQ(spec.operations[0].do_exchange->request->attributes,
            (std::vector<std::string>{"b", "new"}));
  EXPECT_TRUE(spec.operations[0].do_exchange->reply);
  // The base is what it was.
  EXPECT_EQ(model->families[0].spec.find_set("main")->find("new"), nullptr);
}

// --- Text out --------------------------------------------------------------------------------

TEST(Emit, DependsOnNothingButTheSpecs) {
  const Model model = assemble_one(kSpec).value();
  EXPECT_EQ(emit_cpp(model, {}).messages_h, emit_cpp(model, {}).messages_h);
  EXPECT_EQ(emit_markdown(model), emit_markdown(model));
}

TEST(Emit, ADocCannotLeaveItsCommentOrItsCell) {
  const Model model =
      assemble_one(changed("doc: A sample.", "doc: \"A\\nB | C \\\\\\\\\\n int x;\"")).value();
  const CppFiles files = emit_cpp(model, {});
  EXPECT_NE(files.messages_h.find("/// A B | C // int x;"), std::string::npos);
  EXPECT_NE(emit_markdown(model).find("A B \\| C \\\\ int x;"), std::string::npos);
}

TEST(Names, BecomeIdentifiers) {
  EXPECT_EQ(pascal_case("max-tags"), "MaxTags");
  EXPECT_EQ(pascal_case("x509"), "X509");
  EXPECT_EQ(snake_case("max-tags"), "max_tags");
  EXPECT_EQ(snake_case("default"), "default_");
  EXPECT_TRUE(is_name("a-1-b"));
  for (const std::string_view bad : {"", "-a", "a-", "a--b", "A", "1a", "a_b", "a b", "ä"}) {
    EXPECT_FALSE(is_name(bad)) << bad;
  }
}

}  // namespace
}  // namespace handshake::ynlgen
