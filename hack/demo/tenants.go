// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed"
	"text/template"
)

//go:embed manifests/tenant.yaml.tmpl
var tenantTemplate string

// tenant is a namespace with one workload. Scope is where it stands to PCI
// DSS: cde (it holds card data), connected (it talks to the CDE) or out.
type tenant struct {
	Namespace, Team, Scope string
	App                    string
	Port                   int
	Caller                 string // the namespace that the team itself lets in
}

var tenants = []tenant{
	{"payments-api", "payments", "cde", "payments-api", 8443, "checkout-web"},
	{"card-vault", "vault", "cde", "card-vault", 8200, "tokenization"},
	{"tokenization", "vault", "cde", "tokenizer", 8443, "payments-api"},
	{"hsm-proxy", "vault", "cde", "hsm-proxy", 1500, "card-vault"},
	{"settlement", "payments", "cde", "settlement", 8443, "ledger"},
	{"chargebacks", "disputes", "cde", "chargebacks", 8080, "merchant-portal"},
	{"acquirer-gateway", "payments", "cde", "iso8583-gateway", 9010, "payments-api"},
	{"ledger", "ledger", "connected", "ledger", 8443, "payments-api"},
	{"fraud-scoring", "risk", "connected", "scorer", 9000, "payments-api"},
	{"risk-models", "risk", "connected", "model-server", 8500, "fraud-scoring"},
	{"checkout-web", "storefront", "connected", "checkout", 8080, "partner-gateway"},
	{"merchant-portal", "merchants", "connected", "portal", 8080, "partner-gateway"},
	{"partner-gateway", "platform", "connected", "envoy", 8443, "identity"},
	{"identity", "platform", "connected", "oidc", 8443, "checkout-web"},
	{"subscriptions", "storefront", "connected", "recurring-billing", 8080, "checkout-web"},
	{"legacy-batch", "operations", "connected", "nightly-batch", 7001, "settlement"},
	{"notifications", "storefront", "out", "mailer", 8025, "subscriptions"},
	{"loyalty", "marketing", "out", "points", 8080, "checkout-web"},
	{"reporting", "finance", "out", "reports", 3000, "merchant-portal"},
	{"currency-rates", "finance", "out", "rates", 8080, "ledger"},
}

// renderTenants returns the manifests of all tenants.
func renderTenants() ([]byte, error) {
	manifest, err := template.New("tenant").Parse(tenantTemplate)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, t := range tenants {
		if err := manifest.Execute(&out, t); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}
