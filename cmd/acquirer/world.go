package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"acquirer/hsm"
	"acquirer/merchant"
	"acquirer/routing"
	"acquirer/simulate/card"
)

// The seeded street. Its keys are TEST keys from public labels (simulate/card),
// so that terminals simulated elsewhere know them without a file; production
// refuses it.
const (
	streetMerchants = 6                       // with names and different plans; the demo's terminals stand here
	streetTerminals = simcard.StreetTerminals // four each
	seedTerminals   = streetTerminals + 1024
)

// streetShop is one of the demo's merchants.
type streetShop struct {
	name, mcc, city, area, plan string
	place                       string // what its terminals say in DE 59 A5
	speed                       merchant.Speed
	tier                        merchant.Tier
}

var street = [streetMerchants]streetShop{
	{"老王烧烤夜市摊", "5812", "北京", "110105", "ESIGN-STD", "+39.92150/+116.44310", merchant.T1, merchant.Assessed},
	{"小李手作工坊", "5947", "杭州", "330106", "MICRO-2025", "+30.25960/+120.13040", merchant.D0, merchant.Unassessed},
	{"张老师钢琴课", "8299", "上海", "310104", "ESIGN-STD", "+31.18830/+121.43670", merchant.D0, merchant.Assessed},
	{"阿梅微店同城送", "5499", "成都", "510107", "MICRO-2025", "+30.64190/+104.04330", merchant.T1, merchant.Assessed},
	{"陈记流动餐车", "5814", "广州", "440106", "ESIGN-STD", "+23.12470/+113.36120", merchant.T1, merchant.Unassessed},
	{"光影摄影工作室", "7221", "西安", "610113", "MICRO-2025", "+34.21340/+108.94410", merchant.D0, merchant.Assessed},
}

// demoSeed is the street and, behind it, plain merchants for load tests, with
// terminals terminals in all.
func demoSeed(ctx context.Context, h hsm.HSM, terminals int) (*merchant.Seed, error) {
	s := &merchant.Seed{}
	for _, k := range simcard.TestBaseKeys {
		if _, device := h.(*deviceHSM); device && k.AES {
			continue // no command of a payShield derives from one
		}
		bdk, err := formKeyOf(ctx, h, hsm.UseBDK, map[bool]hsm.Alg{true: hsm.AES16, false: hsm.TDES16}[k.AES], k.Key)
		if err != nil {
			return nil, fmt.Errorf("seeding the base key %s: %w", k.KSI, err)
		}
		s.BaseKeys = append(s.BaseKeys, merchant.BaseKey{KSI: k.KSI, BDK: string(bdk)})
	}
	for j := range (terminals + simcard.TerminalsPerMerchant - 1) / simcard.TerminalsPerMerchant {
		m := merchant.SeedMerchant{Merchant: merchant.Merchant{MID: simcard.SeedMerchant(j), Name: fmt.Sprintf("测试商户%04d", j+1), MCC: "5411",
			City: "北京", Area: "110100", Plan: "ESIGN-STD", Speed: merchant.T1, Tier: merchant.Assessed}}
		if j < streetMerchants {
			st := street[j]
			m.Name, m.MCC, m.City, m.Area, m.Plan, m.Speed, m.Tier = st.name, st.mcc, st.city, st.area, st.plan, st.speed, st.tier
		}
		m.Account = merchant.SeedAccount{Number: fmt.Sprintf("9999000%06d%02d0", j+1, 17), Name: m.Name, Bank: "演示银行", Class: 1}
		if j == streetMerchants-1 {
			m.Account.Number = "9999000000006091" // the bank pays and does not answer: asked for by its reference (simulate/bank)
		}
		s.Merchants = append(s.Merchants, m)
	}
	for i := range terminals {
		tid, mid := simcard.SeedTerminal(i)
		tmk, err := formKey(ctx, h, hsm.UseTMK, simcard.TestTMK(tid))
		if err != nil {
			return nil, fmt.Errorf("seeding terminal %s: %w", tid, err)
		}
		s.Terminals = append(s.Terminals, merchant.SeedTerminal{Terminal: merchant.Terminal{TID: tid, MID: mid, Serial: seedSerial(i)}, TMK: string(tmk)})
	}
	return s, nil
}

// seedSerial is the serial number of the seed's terminal i.
func seedSerial(i int) string { return fmt.Sprintf("AQ%08d", i+1) }

// formKey puts a test key into the HSM as two components, the way a key
// ceremony does.
func formKey(ctx context.Context, h hsm.HSM, use hsm.Use, key [16]byte) (hsm.Key, error) {
	return formKeyOf(ctx, h, use, hsm.TDES16, key)
}

func formKeyOf(ctx context.Context, h hsm.HSM, use hsm.Use, alg hsm.Alg, key [16]byte) (hsm.Key, error) {
	var a, b [16]byte
	if _, err := rand.Read(a[:]); err != nil {
		return "", err
	}
	for i := range b {
		b[i] = key[i] ^ a[i]
	}
	if own, ok := h.(*loggedHSM); ok {
		h = own.inside // published keys are no event
	}
	former, ok := h.(interface {
		FormKey(ctx context.Context, use hsm.Use, alg hsm.Alg, components ...[]byte) (hsm.Key, hsm.KCV, error)
	})
	if !ok {
		return "", errors.New("the test keys of the demo street can be put only into the software HSM (hsm.kind software or remote), or a payShield with the test LMK")
	}
	k, _, err := former.FormKey(ctx, use, alg, a[:], b[:])
	return k, err
}

// demoBINs is the table of the simulated issuers.
func demoBINs() (*routing.Table, error) {
	var routes []routing.Route
	for _, is := range simcard.Issuers {
		lengths, err := routing.LengthsOf(is.Len)
		if err != nil {
			return nil, err
		}
		kind := routing.Credit
		if is.Debit {
			kind = routing.Debit
		}
		routes = append(routes, routing.Route{BIN: is.BIN, Issuer: is.Name, Brand: "UnionPay", Name: is.Name, Kind: kind, Lengths: lengths, Luhn: true})
	}
	return routing.NewTable(routes)
}
