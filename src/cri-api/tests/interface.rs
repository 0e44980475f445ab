//! The interface file says what the released interface says: every name, number, type, label,
//! request and response, in both directions.

use std::collections::BTreeSet;
use std::path::PathBuf;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FieldOptions, FileDescriptorSet,
    MessageOptions, ServiceDescriptorProto,
};

/// Prefix of every type name of the package in a descriptor.
const PACKAGE: &str = ".runtime.v1.";

/// One line of `interface.tsv`.
type Row = String;

/// What a descriptor says, as rows.
fn rows(set: &FileDescriptorSet) -> BTreeSet<Row> {
    let mut rows = BTreeSet::new();
    for file in &set.file {
        if file.package() != "runtime.v1" {
            continue;
        }
        assert_eq!(file.syntax(), "proto3", "{}", file.name());
        for service in &file.service {
            service_rows(service, &mut rows);
        }
        for message in &file.message_type {
            message_rows("", message, &mut rows);
        }
        for enumeration in &file.enum_type {
            enum_rows("", enumeration, &mut rows);
        }
    }
    rows
}

fn local(type_name: &str) -> &str {
    type_name.strip_prefix(PACKAGE).unwrap_or(type_name)
}

fn service_rows(service: &ServiceDescriptorProto, rows: &mut BTreeSet<Row>) {
    for method in &service.method {
        assert!(!method.client_streaming(), "{}", method.name());
        let stream = if method.server_streaming() {
            "stream "
        } else {
            ""
        };
        rows.insert(format!(
            "rpc\t{}.{}\t\t{}\t{stream}{}",
            service.name(),
            method.name(),
            local(method.input_type()),
            local(method.output_type()),
        ));
    }
}

fn message_rows(scope: &str, message: &DescriptorProto, rows: &mut BTreeSet<Row>) {
    let name = format!("{scope}{}", message.name());
    if message.field.is_empty() {
        rows.insert(format!("message\t{name}"));
    }
    assert!(message.oneof_decl.is_empty(), "{name} has a oneof");
    for field in &message.field {
        rows.insert(field_row(&name, message, field));
    }
    let scope = format!("{name}.");
    for nested in &message.nested_type {
        if !nested
            .options
            .as_ref()
            .is_some_and(MessageOptions::map_entry)
        {
            message_rows(&scope, nested, rows);
        }
    }
    for enumeration in &message.enum_type {
        enum_rows(&scope, enumeration, rows);
    }
}

fn enum_rows(scope: &str, enumeration: &EnumDescriptorProto, rows: &mut BTreeSet<Row>) {
    for value in &enumeration.value {
        rows.insert(format!(
            "enum\t{scope}{}.{}\t{}",
            enumeration.name(),
            value.name(),
            value.number()
        ));
    }
}

fn field_row(name: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> Row {
    let map = map_type(message, field);
    let mut row = format!(
        "field\t{name}.{}\t{}\t{}",
        field.name(),
        field.number(),
        map.clone().unwrap_or_else(|| type_name(field))
    );
    let repeated = field.label() == Label::Repeated && map.is_none();
    let deprecated = field.options.as_ref().is_some_and(FieldOptions::deprecated);
    if repeated || deprecated {
        row.push('\t');
    }
    if repeated {
        row.push_str("repeated");
    }
    if deprecated {
        row.push_str(" deprecated");
    }
    row
}

/// `map<key,value>` when the field is a map.
fn map_type(message: &DescriptorProto, field: &FieldDescriptorProto) -> Option<String> {
    let entry_name = field.type_name().rsplit('.').next()?;
    let entry = message.nested_type.iter().find(|nested| {
        nested.name() == entry_name
            && nested
                .options
                .as_ref()
                .is_some_and(MessageOptions::map_entry)
    })?;
    let part = |number| {
        entry
            .field
            .iter()
            .find(|field| field.number() == number)
            .map(type_name)
    };
    Some(format!("map<{},{}>", part(1)?, part(2)?))
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => local(field.type_name()).to_owned(),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase(),
    }
}

fn ours() -> BTreeSet<Row> {
    let set = FileDescriptorSet::decode(insula_cri_api::FILE_DESCRIPTOR_SET)
        .expect("the built descriptor decodes");
    rows(&set)
}

/// Fails with the rows that only one side has.
fn assert_same(ours: &BTreeSet<Row>, theirs: &BTreeSet<Row>, whose: &str) {
    let missing: Vec<_> = theirs.difference(ours).collect();
    let extra: Vec<_> = ours.difference(theirs).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing from our file, in {whose}: {missing:#?}\nin our file, not in {whose}: {extra:#?}"
    );
}

#[test]
fn equals_the_table() {
    let table: BTreeSet<Row> = include_str!("interface.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    assert!(table.len() > 600, "the table is cut: {} rows", table.len());
    assert_same(&ours(), &table, "tests/interface.tsv");
}

/// `hack/cri-proto` fetches the released module and prints the path to give here.
#[test]
fn equals_the_released_interface() {
    let Some(path) = std::env::var_os("INSULA_CRI_PROTO").map(PathBuf::from) else {
        println!(
            "SKIP equals_the_released_interface: INSULA_CRI_PROTO is not set \
             (INSULA_CRI_PROTO=$(hack/cri-proto) runs it; needs Go and its module proxy)"
        );
        return;
    };
    let directory = path.parent().expect("the path names a file");
    let file = path.file_name().expect("the path names a file");
    let mut compiler = protox::Compiler::new([directory]).expect("the directory can be searched");
    compiler.include_imports(true);
    compiler
        .open_file(file)
        .unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
    assert_same(
        &ours(),
        &rows(&compiler.file_descriptor_set()),
        "the release",
    );
}
