package merchant

import (
	"bytes"
	"testing"

	"acquirer/money"
)

// Whatever stands in a file of plans is taken or refused with an error; a plan
// that was taken gives every sale a price that adds up, or a refusal, and can
// be described.
func FuzzPlans(f *testing.F) {
	f.Add(builtInPlans)
	for _, seed := range []string{`{"plans":[null]}`, `{"mcc_classes":{"":["5411"]}}`, `{"plans":[{"code":"X","version":1,"rules":[{"mcc_class":"any","wallet":"any","ppm":1000000,
		"fixed":"100000000.00","min":"0.01","on_fee_ge_amount":"allow_negative"}],"settle_fees":[{"speed":"D0","ppm":1000000,"fixed":"100000000.00","base":"net"}]}]}`,
		`{"plans":[{"code":"X","version":1,"rules":[{"fixed":"92233720368547758.07","on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}]}]}`, `[]`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		plans, err := (&Plans{}).With(bytes.NewReader(text))
		if err != nil {
			return
		}
		for p := range plans.All() {
			if p.Summary() == "" {
				t.Errorf("%s has no summary", p.Code)
			}
			for _, amount := range []money.Amount{-1, 0, 1, 302, 100_00, 50_000_00, 9_999_999_999_99, 1<<63 - 1} {
				for _, sale := range []Sale{{Channel: Card, CardType: Credit}, {Channel: Card, CardType: Debit, MCCClass: "exempt", Entry: ContactlessNoPIN}, {Channel: QR, Wallet: "wechat"}} {
					sale.Amount = amount
					price := p.Price(sale)
					if price.Fee < 0 || price.Percent < 0 || price.Fixed < 0 || price.Percent+price.Fixed != price.Fee {
						t.Errorf("%s: %s costs %+v", p.Code, amount, price)
					}
					if price.Refusal == NotRefused && (amount <= 0 || price.Rule.OnFeeGEAmount != AllowNegative && price.Fee > amount) {
						t.Errorf("%s: %s costs %s and is not refused", p.Code, amount, price.Fee)
					}
					for _, speed := range []Speed{T1, D1, D0, S0} {
						if fee, _ := p.SpeedFee(speed, amount, price.Fee); fee < 0 {
							t.Errorf("%s: %s at %s takes %s for speed", p.Code, amount, speed, fee)
						}
					}
				}
			}
		}
	})
}
