package ledger

import (
	"acquirer/money"
)

// Tariff is what a sale costs the acquirer: the issuer's fee and the network's.
// Rates are in ppm, a cap of 0 is none.
type Tariff struct {
	CreditPPM, DebitPPM int64
	DebitCap            money.Amount
	NetworkPPM          int64        // the acquirer's half
	NetworkDebitCap     money.Amount // on debit cards only
}

// UnionPay2016 is the tariff of the reform of 2016-09-06 (96费改): issuers take
// 0.45 % of a credit sale and 0.35 %, at most 13.00, of a debit sale; the
// network takes 0.0325 % from the acquirer, at most 3.25 of a debit sale.
var UnionPay2016 = Tariff{CreditPPM: 4500, DebitPPM: 3500, DebitCap: 13_00, NetworkPPM: 325, NetworkDebitCap: 3_25}

// CardCost is the tariff's answer for one sale.
type CardCost struct {
	Issuer, Network money.Amount
}

// Cost prices a card sale, each part rounded half up to the fen. Sales of
// exempt merchants (hospitals, schools, welfare) cost nothing. An amount whose
// fee does not fit is ErrOverflow of money.
func (t *Tariff) Cost(debit, exempt bool, amount money.Amount) (CardCost, error) {
	if exempt {
		return CardCost{}, nil
	}
	ppm, issuerCap, networkCap := t.CreditPPM, money.Amount(0), money.Amount(0)
	if debit {
		ppm, issuerCap, networkCap = t.DebitPPM, t.DebitCap, t.NetworkDebitCap
	}
	issuer, err := amount.MulPPM(ppm)
	if err != nil {
		return CardCost{}, err
	}
	network, err := amount.MulPPM(t.NetworkPPM)
	if err != nil {
		return CardCost{}, err
	}
	if issuerCap > 0 {
		issuer = min(issuer, issuerCap)
	}
	if networkCap > 0 {
		network = min(network, networkCap)
	}
	return CardCost{issuer, network}, nil
}
